//! Values that serde does not write, and caches for values of several types.

use bytes::Bytes;
use redbrick_cache::{Cache, Error, ValueCodec};
use redbrick_core_conn::BoxError;
use redbrick_testkit::unique;

use crate::{connect, connect_below, never};

/// No serde knows it.
#[derive(Debug, PartialEq)]
struct Line(String);

/// Lines as they are, of letters alone.
struct Letters;

impl ValueCodec<Line> for Letters {
    fn encode(&self, Line(line): &Line) -> Result<Bytes, BoxError> {
        match line.chars().all(char::is_alphabetic) {
            true => Ok(Bytes::copy_from_slice(line.as_bytes())),
            false => Err("letters only".into()),
        }
    }

    fn decode(&self, encoded: &[u8]) -> Result<Line, BoxError> {
        let line = std::str::from_utf8(encoded)?;
        let line = Line(line.to_owned());
        self.encode(&line)?;
        Ok(line)
    }
}

#[tokio::test]
async fn a_codec_of_ones_own_writes_and_reads_what_serde_does_not_know() {
    let conn = connect("letters").await;
    let cache = Cache::builder(conn.clone(), "lines").build_with_codec(Letters).unwrap();
    let line = || Line("hello".to_owned());
    cache.set("a", &line()).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), Some(line()));
    let stored = conn.with_codec(redbrick_core_conn::Codec::Plain);
    let stored: Bytes = stored.get("cache:lines:{a}").await.unwrap().unwrap();
    assert!(stored.ends_with(b"hello") && stored.len() == 21 + 5, "nothing is put around it");

    let loaded = cache.get_or_load("b", async || Ok::<_, Error>(line())).await.unwrap();
    assert_eq!(loaded, line());
    let never = async || -> Result<Line, Error> { panic!("it is there") };
    assert_eq!(cache.get_or_load("b", never).await.unwrap(), line());
}

#[tokio::test]
async fn what_such_a_codec_refuses_is_not_stored_and_what_it_cannot_read_is_a_miss() {
    let cache = Cache::builder(connect("digits").await, "lines").build_with_codec(Letters).unwrap();
    let refused = cache.set("a", &Line("1".to_owned())).await.unwrap_err();
    assert!(matches!(&refused, Error::Unencodable(why) if why.to_string() == "letters only"));
    assert!(!cache.exists("a").await.unwrap());
    cache.of::<u64>().set("a", &1).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), None);
    assert_eq!(cache.statistics().unreadable, 1);
}

#[tokio::test]
async fn one_cache_holds_values_of_several_types() {
    let prefix = unique("types");
    let numbers: Cache<u64> = Cache::new(connect_below(&prefix).await, "mixed");
    let texts = numbers.of::<String>();
    numbers.set("n", &1).tags(["all"]).await.unwrap();
    texts.set("t", &"text".to_owned()).tags(["all"]).await.unwrap();
    assert_eq!(numbers.get("n").await.unwrap(), Some(1));
    assert_eq!(texts.get("t").await.unwrap().as_deref(), Some("text"));
    assert_eq!(texts.get("n").await.unwrap(), None, "it is a number");
    assert_eq!(numbers.get_or_load("n", never).await.unwrap(), 1, "and stays one");
    assert!(numbers.invalidate_tag("all").await.unwrap());
    assert_eq!((numbers.get("n").await.unwrap(), texts.get("t").await.unwrap()), (None, None));
    assert_eq!(numbers.statistics(), texts.statistics());
}
