//! The bytes under `tests/golden`, which every release writes and reads.

use std::{collections::BTreeMap, fmt::Debug};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Codec, ErrorKind, Key, Pattern, Prefix, codec::Blob};

/// The entries of a file that no test has asked for yet.
struct Golden(BTreeMap<String, Vec<u8>>);

impl Golden {
    fn read(file: &str) -> Self {
        let mut entries = BTreeMap::new();
        let mut current = None;
        for line in file.lines() {
            if let Some(name) = line.strip_prefix('[') {
                let name = name.trim_end().strip_suffix(']').expect(line).to_owned();
                assert!(!entries.contains_key(&name), "twice: {name}");
                current = Some(name.clone());
                entries.insert(name, Vec::new());
            } else if let Some(name) = &current {
                entries.get_mut(name).expect(name).extend(bytes(line));
            } else {
                assert!(bytes(line).is_empty(), "bytes before the first name: {line}");
            }
        }
        Self(entries)
    }

    fn take(&mut self, name: &str) -> Vec<u8> {
        self.0.remove(name).unwrap_or_else(|| panic!("no entry {name}"))
    }

    /// A value that is written as these bytes and read from them, by each codec.
    fn value<T: Debug + DeserializeOwned + PartialEq + Serialize>(
        &mut self,
        name: &str,
        value: &T,
    ) {
        for (suffix, codec) in CODECS {
            let stored = self.take(&format!("{name}.{suffix}"));
            assert_eq!(codec.encode(value).unwrap(), stored, "writing {name}.{suffix}");
            // A header says itself what follows; without one, the reader has to.
            let readers = if codec == Codec::Plain {
                [Codec::Plain; 2]
            } else {
                [Codec::MessagePack, Codec::Json]
            };
            for reader in readers {
                let read = reader.decode::<T>(&stored);
                assert_eq!(&read.unwrap(), value, "reading {name}.{suffix}");
            }
        }
    }

    fn finish(self) {
        assert_eq!(self.0, BTreeMap::new(), "entries without a test");
    }
}

const CODECS: [(&str, Codec); 3] =
    [("messagepack", Codec::MessagePack), ("json", Codec::Json), ("plain", Codec::Plain)];

/// What a line stands for: hex digits and `'text'`, up to a `#`.
fn bytes(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (text, behind) = quoted.split_once('\'').expect(line);
            bytes.extend(text.bytes());
            rest = behind.trim_start();
        } else {
            let (byte, behind) = rest.split_at(2);
            bytes.push(u8::from_str_radix(byte, 16).expect(line));
            rest = behind.trim_start();
        }
    }
    bytes
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Profile {
    id: u32,
    name: String,
    email: Option<String>,
    tags: Vec<String>,
    home: Home,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Home {
    lat: f64,
    notes: BTreeMap<String, Option<i64>>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
enum Event {
    Closed,
    Renamed(String),
    Moved(i8, i8),
    Resized { by: f32 },
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Id(String);

#[derive(Debug, Deserialize, PartialEq)]
struct User {
    id: u32,
    name: String,
    #[serde(default)]
    email: Option<String>,
}

#[test]
fn values_are_written_and_read_as_ever() {
    let mut golden = Golden::read(include_str!("../tests/golden/values.hex"));
    let profile = Profile {
        id: u32::MAX,
        name: "Ada".to_owned(),
        email: None,
        tags: vec!["a".to_owned(), String::new()],
        home: Home {
            lat: 51.0,
            notes: BTreeMap::from([("x".to_owned(), Some(-1)), ("y".to_owned(), None)]),
        },
    };
    golden.value("struct", &profile);
    golden.value("unit-variant", &Event::Closed);
    golden.value("newtype-variant", &Event::Renamed("new".to_owned()));
    golden.value("tuple-variant", &Event::Moved(1, -128));
    golden.value("struct-variant", &Event::Resized { by: 1.5 });
    golden.value("none", &None::<String>);
    golden.value("some", &Some("x".to_owned()));
    golden.value("unit", &());
    golden.value("newtype", &Id("user-1".to_owned()));
    golden.value("empty-text", &String::new());
    golden.value("text", &"a \"b\" é".to_owned());
    golden.value("char", &'\u{1F600}');
    golden.value("bytes", &Blob(vec![0, 0xff, 0xb5, 0x22]));
    golden.value("empty-bytes", &Blob(Vec::new()));
    golden.value("true", &true);
    golden.value("u64", &u64::MAX);
    golden.value("i64", &i64::MIN);
    golden.value("f64", &0.1f64);
    golden.value("list-of-u8", &vec![0u8, 127, 255]);
    golden.value("tuple", &("a".to_owned(), 1, false));
    golden.finish();
}

#[test]
fn a_value_that_ends_early_is_refused_wherever_it_ends() {
    let mut golden = Golden::read(include_str!("../tests/golden/values.hex"));
    for (suffix, codec) in CODECS {
        let stored = golden.take(&format!("struct.{suffix}"));
        for end in 0..stored.len() {
            let err = codec.decode::<Profile>(&stored[..end]).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Codec, "{suffix}, {end} bytes");
        }
    }
}

#[test]
fn what_older_releases_and_other_programs_wrote_is_read() {
    let mut golden = Golden::read(include_str!("../tests/golden/read.hex"));
    let ada = User { id: 7, name: "Ada".to_owned(), email: None };
    for name in ["unknown-field", "missing-field", "other-order", "pretty"] {
        let mut read = 0;
        for (suffix, codec) in CODECS {
            if let Some(stored) = golden.0.remove(&format!("{name}.{suffix}")) {
                assert_eq!(codec.decode::<User>(&stored).unwrap(), ada, "{name}.{suffix}");
                read += 1;
            }
        }
        assert!(read > 0, "no entry {name}");
    }
    assert_eq!(Codec::Plain.decode::<i64>(&golden.take("counter.plain")).unwrap(), 12);
    golden.finish();
}

#[test]
fn what_cannot_be_read_is_refused_for_its_reason() {
    let golden = Golden::read(include_str!("../tests/golden/refused.hex"));
    assert!(golden.0.len() >= 21, "entries are never removed");
    for (name, stored) in golden.0 {
        let reason = match name.split('.').next() {
            Some("newer") => "the stored value was written by a newer release of redbrick",
            Some("foreign") => {
                "the stored value has no redbrick header: another program wrote it (read it with `Codec::Plain`), or it is a counter (`Conn::count`)"
            }
            Some("broken") => "the stored value does not have the shape asked for",
            _ => panic!("no reason: {name}"),
        };
        for codec in [Codec::MessagePack, Codec::Json] {
            let err = codec.decode::<User>(&stored).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Codec, "{name}");
            assert_eq!(err.to_string(), reason, "{name}");
        }
    }
}

#[test]
fn keys_are_made_and_taken_apart_as_ever() {
    let mut golden = Golden::read(include_str!("../tests/golden/keys.hex"));
    let users = users();
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    for (name, id) in [
        ("key", b"42".as_slice()),
        ("empty", b""),
        ("colon-and-star", b"a:b*"),
        ("utf-8", "J\u{fc}rgen".as_bytes()),
        ("uuid", b"67e55044-10b1-426f-9247-bb680e5fe0c8"),
        ("every-byte", &every_byte),
    ] {
        let key = golden.take(name);
        assert_eq!(users.key(id).as_ref(), key, "{name}");
        assert_eq!(users.id_of(&key).as_deref(), Some(id), "{name}");
    }
    for (name, id) in [
        ("tag", "42"),
        ("empty-tag", ""),
        ("tag-that-looks-like-the-empty-one", "%"),
        ("braces-in-a-tag", "{a}"),
    ] {
        let key = golden.take(name);
        assert_eq!(users.tagged(id).as_ref(), key, "{name}");
        assert_eq!(users.id_of(&key).as_deref(), Some(id.as_bytes()), "{name}");
    }
    let made = |key: Key| key.as_ref().to_vec();
    assert_eq!(made(users.tagged("42").join("queue")), golden.take("tag-and-role"));
    assert_eq!(made(users.tagged("").join("")), golden.take("empty-tag-and-empty-role"));
    assert_eq!(made(Prefix::new("cache:users").key("42")), golden.take("prefix-with-a-colon"));
    golden.finish();
}

#[test]
fn patterns_are_sent_as_ever() {
    let mut golden = Golden::read(include_str!("../tests/golden/patterns.hex"));
    let users = users();
    for (name, pattern) in [
        ("all-users", users.all()),
        ("ids", users.pattern(r"a:*\*").unwrap()),
        ("no-star", users.pattern("42").unwrap()),
        ("tags", users.tagged_pattern("4**").unwrap()),
        ("all-tags", users.tagged_pattern("*").unwrap()),
        ("the-empty-tag", users.tagged_pattern("").unwrap()),
        ("whole-keys", Pattern::new(r"user:*:\?\[\*\]\\").unwrap()),
    ] {
        assert_eq!(pattern.glob("my*app:"), golden.take(name), "{name}");
    }
    golden.finish();
}

fn users() -> Prefix {
    Prefix::new("cache").join("users")
}
