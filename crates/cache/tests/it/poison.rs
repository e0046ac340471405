//! No word of the protocol that users store or ask for leads a reply astray.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::num::NonZeroUsize;

use redbrick_cache::{Cache, Change, Invalidated, Loaded, Rules, Target};
use redbrick_core_conn::{Codec, Conn};
use redbrick_testkit::poison;

use crate::{PATIENCE, connect};

async fn attack(plain: &Conn, cache: &Cache<String>, words: &[&str]) {
    let (first, last) = (words[0], words[words.len() - 1]);
    let text = last.to_owned();
    cache.set(first, &text).tags(words).await.unwrap();
    assert_eq!(cache.get(first).await.unwrap().as_deref(), Some(last), "{words:?}");
    assert!(cache.exists(first).await.unwrap());
    cache.ttl(first).await.unwrap();
    let values: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    cache.set_many(words.iter().zip(&values)).tags(words).await.unwrap();
    let found = cache.get_many(words).await.unwrap();
    assert!(found.iter().zip(words).all(|(found, word)| found.as_deref() == Some(word)));
    cache.invalidate_tag(last).await.unwrap();
    cache.invalidate_tags(words).await.unwrap();
    let load = async || Ok::<_, std::io::Error>(text.clone());
    assert_eq!(cache.get_or_load(first, load).tags(words).await.unwrap(), last);
    assert_eq!(cache.get_or_load(first, load).tags(words).await.unwrap(), last);
    assert_eq!(cache.refresh(first, load).tags(words).await.unwrap(), last);
    // The loader names the tags, which are known by the second time.
    let said = async |_| Ok::<_, std::io::Error>(Loaded::new(text.clone()).tags(words));
    for _ in 0..2 {
        cache.delete(first).await.unwrap();
        assert_eq!(cache.get_or_load_with(first, said).await.unwrap(), last);
    }
    cache.delete_many(words).await.unwrap();
    let each = async |missing: Vec<String>| {
        let tagged = |word: String| Loaded::new(word.clone()).tags([word]);
        let loaded = missing.into_iter().map(|word| (word.clone(), tagged(word)));
        Ok::<_, std::io::Error>(loaded.collect())
    };
    for _ in 0..2 {
        let keys = words.iter().map(|&word| word.to_owned());
        let found = cache.get_or_load_many_with(keys, each).tags(words).await.unwrap();
        assert!(found.iter().zip(words).all(|(found, word)| found.as_deref() == Some(word)));
    }
    // What other programs wrote begins as they like.
    for word in words {
        let key = cache.prefix().tagged(word);
        plain.set(key, word).time_to_live(PATIENCE).await.unwrap();
    }
    assert!(cache.get_many(words).await.unwrap().iter().all(Option::is_none));
    assert_eq!(cache.get_or_load(first, load).await.unwrap(), last);
    assert_eq!(cache.refresh(last, load).await.unwrap(), last);
    let failing = async || Err::<String, _>(std::io::Error::other(first));
    cache.get_or_load("failing", failing).await.unwrap_err();
    let concurrency = NonZeroUsize::new(3).unwrap();
    let load = async |word: &&str| Ok::<_, std::io::Error>((*word).to_owned());
    assert_eq!(cache.warm(words, concurrency, load).await.failed, 0);
    for word in words {
        cache.increment(word, 3).await.unwrap();
        cache.decrement(word, 1).await.unwrap();
        cache.count(word).await.unwrap();
        cache.delete_count(word).await.unwrap();
    }
    let rules = Rules::builder()
        .on(
            first,
            Change::Update,
            [
                Target::key("{word}"),
                Target::tag("{word}"),
                Target::pattern("{word}*"),
                Target::shorten("{word}", PATIENCE),
            ],
        )
        .build()
        .unwrap();
    cache.apply(&rules, first, Change::Update, &[("word", last)]).await.unwrap();
    cache.publish_statistics().await.unwrap();
    cache.fleet_statistics().await.unwrap();
    cache.server_statistics().await.unwrap();
    cache.clear([last]).await.unwrap();
    cache.delete(first).await.unwrap();
    cache.delete_many(words).await.unwrap();
}

/// The same where the process keeps what it reads, and asks whether that is still there.
#[cfg(feature = "local")]
async fn attack_kept(plain: &Conn, cache: &Cache<String>, words: &[&str]) {
    for &word in words {
        cache.set(word, &word.to_owned()).tags(words).await.unwrap();
    }
    for _ in 0..3 {
        let found = cache.get_many(words).await.unwrap();
        assert!(found.iter().zip(words).all(|(found, word)| found.as_deref() == Some(word)));
        for &word in words {
            assert_eq!(cache.get(word).await.unwrap().as_deref(), Some(word));
        }
    }
    for word in words {
        let key = cache.prefix().tagged(word);
        plain.set(key, word).time_to_live(PATIENCE).await.unwrap();
    }
    // Until the server has said so.
    let late = tokio::time::Instant::now() + PATIENCE;
    while !cache.get_many(words).await.unwrap().iter().all(Option::is_none) {
        assert!(tokio::time::Instant::now() < late, "{words:?}");
        tokio::task::yield_now().await;
    }
    for &word in words {
        let load = async || Ok::<_, std::io::Error>(word.to_owned());
        assert_eq!(cache.get_or_load(word, load).tags(words).await.unwrap(), word);
    }
}

#[cfg(feature = "local")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_gets_its_own_answer_whatever_words_are_kept() {
    let conn = connect("poison_kept").await;
    for victim in 0..poison::VICTIMS {
        conn.set(format!("victim {victim}"), &poison::answer(victim)).await.unwrap();
    }
    let plain = conn.with_codec(Codec::Plain);
    let mut asked = 0;
    for words in poison::lists() {
        let cache = Cache::<String>::builder(conn.clone(), words[0]).redis_timeout(PATIENCE);
        let cache = cache.local(redbrick_cache::Local::new()).build().unwrap();
        let read = |victim| {
            let conn = conn.clone();
            async move { conn.get::<String>(format!("victim {victim}")).await }
        };
        poison::beside(words[0], attack_kept(&plain, &cache, &words), read).await;
        asked += cache.statistics().revalidated;
    }
    assert!(asked > 0, "until the server says what changes, it is asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_gets_its_own_answer_whatever_words_are_stored() {
    let conn = connect("poison").await;
    for victim in 0..poison::VICTIMS {
        conn.set(format!("victim {victim}"), &poison::answer(victim)).await.unwrap();
    }
    let mut feed = Cache::<String>::new(conn.clone(), "message").invalidations().await.unwrap();
    let plain = conn.with_codec(Codec::Plain);
    for (n, words) in poison::lists().enumerate() {
        let cache = Cache::<String>::builder(conn.clone(), words[0]).redis_timeout(PATIENCE);
        let cache = cache.follow_tags(n % 2 == 1).build().unwrap();
        let read = |victim| {
            let conn = conn.clone();
            async move { conn.get::<String>(format!("victim {victim}")).await }
        };
        poison::beside(words[0], attack(&plain, &cache, &words), read).await;
    }
    let words = poison::WORDS;
    let known = |key: &[u8]| words.iter().any(|word| word.as_bytes() == key) || key == b"failing";
    let cache = Cache::<String>::new(conn, "message");
    cache.set("the last", &String::new()).await.unwrap();
    loop {
        match tokio::time::timeout(PATIENCE, feed.next()).await.unwrap().unwrap() {
            Invalidated::Entry(key) if key == "the last" => break,
            Invalidated::Entry(key) | Invalidated::Tag(key) => assert!(known(&key), "{key:?}"),
            _ => {}
        }
    }
}
