//! What users, and other programs, may send.

use std::{borrow::Cow, num::NonZeroU32, time::Duration};

use redbrick_core_conn::{Codec, ErrorKind, Script};
use redbrick_resource::{Error, Record, Resource, Saved};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use crate::{User, connect, state, user, users};

/// Whatever may stand in an id, a name or a value.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "", " ", "a b", "{", "}", "{a}", "a:b", "/", "*?[]\\", "%", "\"'", "ü日本", "\0", "a\0b",
        "\r\n",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(64 << 10));
    texts.push("\u{ff}".repeat(100));
    texts
}

#[tokio::test]
async fn ids_and_values_may_be_any_text() {
    let users = users("any_text").await;
    for text in texts() {
        let mine = User {
            email: Some(text.clone()),
            city: Some(text.clone()),
            nick: Some(text.clone()),
            ..user(&text)
        };
        users.create(&mine).await.unwrap();
    }
    for text in texts() {
        let found = users.get(&text).await.unwrap();
        assert_eq!((&found.id, found.nick.as_ref()), (&text, Some(&text)));
        assert_eq!(users.get_by("email", &text).await.unwrap().id, text);
        let listed = users.list().where_eq("city", &text).where_eq("age", &30).await.unwrap();
        assert_eq!((listed.total, &listed.items[0].id), (1, &text));
        assert_eq!(users.list().where_eq("city", &text).await.unwrap().total, 1);
    }
    assert_eq!(state::check(&users).await, texts().len());
    for text in texts() {
        assert_eq!(users.pick(&text).await.unwrap().id, text);
    }
    assert_eq!(state::check(&users).await, 0);
}

#[tokio::test]
async fn names_partitions_and_channels_may_be_any_text() {
    let conn = connect("any_name").await;
    for name in texts() {
        let named = Resource::<User>::builder(conn.clone()).name(&name).build();
        let parted = Resource::<User>::builder(conn.clone()).partition(&name).build();
        for users in [named, parted] {
            users.create(&user(&name)).await.unwrap();
            assert_eq!(users.list().await.unwrap().items, [user(&name)]);
            users.publish(&name).channel(&name).await.unwrap();
        }
    }
}

#[tokio::test]
async fn values_that_are_a_prefix_of_each_other_are_told_apart() {
    let users = users("prefixes").await;
    for (id, city) in [("1", "a"), ("2", "aa"), ("3", "a1"), ("4", "")] {
        users.create(&User { city: Some(city.to_owned()), ..user(id) }).await.unwrap();
    }
    for (id, city) in [("1", "a"), ("2", "aa"), ("3", "a1"), ("4", "")] {
        let found = users.list().where_eq("city", city).await.unwrap();
        assert_eq!((found.total, &*found.items[0].id), (1, id));
    }
}

#[tokio::test]
async fn zero_and_huge_lives_and_pages_are_taken() {
    let users = users("extremes").await;
    users.create(&user("a")).time_to_live(Duration::ZERO).await.unwrap();
    let wait = async { while users.exists("a").await.unwrap() {} };
    tokio::time::timeout(crate::PATIENCE, wait).await.expect("one millisecond");
    assert_eq!(users.save(&user("a")).time_to_live(Duration::MAX).await.unwrap(), Saved::Created);
    assert!(users.touch("a").time_to_live(Duration::MAX).await.unwrap());
    let far = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(u64::MAX >> 8);
    users.update("a", &json!({"age": 30})).expires_at(far).await.unwrap();
    assert_eq!(state::check(&users).await, 1);

    for page in [1, 1 << 40, u64::MAX] {
        let empty = users.list().page(page).await.unwrap();
        assert_eq!((empty.items.len(), empty.total, empty.page), (0, 1, page));
        let empty = users.list().where_eq("city", "Rome").page(page).size(NonZeroU32::MAX).await;
        assert_eq!(empty.unwrap().items.len(), 0);
        let both = users.list().where_eq("city", "Rome").where_eq("age", &30).page(page).await;
        assert_eq!(both.unwrap().total, 1);
    }
    assert_eq!(users.list().size(NonZeroU32::MAX).await.unwrap().items, [user("a")]);
}

#[derive(Debug, Deserialize, Serialize)]
struct Odd {
    id: String,
    #[serde(serialize_with = "unless_bad")]
    value: String,
    #[serde(flatten)]
    rest: serde_json::Value,
}

fn unless_bad<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        "bad" => Err(serde::ser::Error::custom("a bad value")),
        good => serializer.serialize_str(good),
    }
}

impl Record for Odd {
    const NAME: &'static str = "odd";

    fn id(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }
}

#[derive(Deserialize, Serialize)]
struct Bare(u8);

impl Record for Bare {
    const NAME: &'static str = "bare";

    fn id(&self) -> Cow<'_, str> {
        "bare".into()
    }
}

#[derive(Deserialize, Serialize)]
struct Nothing {}

impl Record for Nothing {
    const NAME: &'static str = "nothing";

    fn id(&self) -> Cow<'_, str> {
        "nothing".into()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `assert` takes it")]
fn misshaped<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Misshaped { .. })), "{outcome:?}");
}

#[tokio::test]
async fn what_is_no_record_is_refused_and_nothing_is_stored() {
    let conn = connect("no_record").await;
    let odd = Resource::<Odd>::new(conn.clone());
    let make = |value: &str, rest| Odd { id: "o".to_owned(), value: value.to_owned(), rest };
    misshaped(odd.create(&make("bad", json!({}))).await);
    misshaped(odd.create(&make("good", json!({"\0": 1}))).await);
    misshaped(odd.create(&make("good", json!({"value": 1}))).await);
    let deep = (0..127).fold(json!(1), |inner, _| json!([inner]));
    misshaped(odd.save(&make("good", json!({ "deep": deep }))).await);
    misshaped(Resource::<Bare>::new(conn.clone()).create(&Bare(1)).await);
    misshaped(Resource::<Nothing>::new(conn).create(&Nothing {}).await);
    misshaped(odd.publish(&make("bad", json!({}))).await);
    misshaped(odd.update("o", &make("bad", json!({}))).await);
    assert!(!odd.exists("o").await.unwrap());

    odd.create(&make("good", json!({"a": [1, {"b": null}]}))).await.unwrap();
    assert_eq!(odd.get("o").await.unwrap().rest, json!({"a": [1, {"b": null}]}));
}

#[tokio::test]
async fn a_patch_that_would_make_the_record_another_or_unreadable_is_refused() {
    let users = users("bad_patch").await;
    users.create(&user("a")).await.unwrap();
    for bad in [
        json!({"age": "old"}),
        json!({"age": -1}),
        json!({"tags": "x"}),
        json!({"id": "b"}),
        json!({"id": null}),
        json!({"nick": "x", "city": 7}),
        json!({"\0": 1}),
        json!(7),
        json!([]),
        json!(null),
    ] {
        misshaped(users.update("a", &bad).await);
    }
    assert_eq!(users.get("a").await.unwrap(), user("a"));
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn a_record_that_another_program_changed_is_an_error_of_its_own() {
    let users = users("changed").await;
    let plain = users.conn().with_codec(Codec::Plain);
    for garbage in ["", "\u{1}\u{2}", "garbage", "\u{7f}"] {
        users.save(&user("a")).await.unwrap();
        users.save(&user("b")).await.unwrap();
        plain.hash(users.key("a")).set("tags", garbage).await.unwrap();
        misshaped(users.get("a").await);
        misshaped(users.load("a").await);
        misshaped(users.get_by("email", "a@example.com").await);
        misshaped(users.update("a", &json!({"age": 1})).await);
        assert_eq!(users.get("b").await.unwrap(), user("b"));
        // Removed it is all the same, and a whole write mends it.
        users.save(&user("a")).await.unwrap();
        plain.hash(users.key("a")).set("tags", garbage).await.unwrap();
        misshaped(users.delete("a").await);
        assert!(!users.exists("a").await.unwrap());
    }
    users.save(&user("a")).await.unwrap();
    assert_eq!(state::check(&users).await, 2);
}

#[tokio::test]
async fn a_record_of_another_format_is_neither_read_nor_patched() {
    let users = users("format").await;
    users.create(&user("a")).await.unwrap();
    let plain = users.conn().with_codec(Codec::Plain);
    for format in ["", "\u{1}\u{2}\u{1}\u{0}", "x"] {
        plain.hash(users.key("a")).set("\0", format).await.unwrap();
        misshaped(users.get("a").await);
        misshaped(users.update("a", &json!({"age": 1})).await);
        let age = plain.hash(users.key("a")).get::<String>("age").await.unwrap();
        assert_eq!(age.as_deref(), Some("\u{1e}"), "nothing was written");
    }
    // A hash that another program made.
    plain.hash(users.key("b")).set("age", "7").await.unwrap();
    misshaped(users.get("b").await);
    misshaped(users.update("b", &json!({"age": 1})).await);
    assert!(matches!(users.create(&user("b")).await, Err(Error::Exists)));
    users.save(&user("b")).await.unwrap();
    users.save(&user("a")).await.unwrap();
    assert_eq!(state::check(&users).await, 2);
}

#[tokio::test]
async fn another_type_at_a_key_is_an_error_before_anything_has_changed() {
    let users = users("wrong_type").await;
    users.create(&user("a")).await.unwrap();
    let conn = users.conn();
    let wrong = |outcome: Result<(), Error>| {
        let Err(Error::Conn(error)) = &outcome else { panic!("{outcome:?}") };
        assert_eq!(error.kind(), ErrorKind::WrongType, "{error:?}");
    };
    conn.set(users.key("b"), "a text").await.unwrap();
    wrong(users.get("b").await.map(drop));
    wrong(users.create(&user("b")).await);
    wrong(users.replace(&user("b")).await);
    wrong(users.update("b", &json!({"age": 1})).await.map(drop));
    assert!(!users.touch("b").await.unwrap());
    assert_eq!(state::check(&users).await, 1);
    conn.delete(users.key("b")).await.unwrap();

    for role in state::ROLES {
        let users = Resource::<User>::builder(conn.clone()).partition(role).build();
        let key = users.prefix().tagged(role).join(role);
        conn.set(&key, "a text").await.unwrap();
        wrong(users.create(&user("b")).await);
        wrong(users.list().await.map(drop));
        assert!(!users.exists("b").await.unwrap(), "{role}");
        conn.delete(&key).await.unwrap();
        users.create(&user("b")).await.unwrap();
        assert_eq!(users.list().await.unwrap().total, 1);
    }
}

#[tokio::test]
async fn a_record_whose_key_became_another_type_can_be_removed_and_written_over() {
    let users = users("other_type").await;
    let (conn, heir) = (users.conn(), User { id: "heir".to_owned(), ..user("ada") });
    let spoil = async || {
        users.save(&user("ada")).await.unwrap();
        conn.delete(users.key("ada")).await.unwrap();
        conn.set(users.key("ada"), "a text").await.unwrap();
    };
    for pick in [false, true] {
        spoil().await;
        let gone = if pick {
            users.pick("ada").await.map(drop)
        } else {
            users.delete("ada").await.map(drop)
        };
        assert!(matches!(gone, Err(Error::Misshaped { .. })), "{gone:?}");
        assert!(!users.exists("ada").await.unwrap());
        users.create(&heir).await.unwrap();
        assert_eq!(state::check(&users).await, 1);
        users.delete("heir").await.unwrap();
    }

    spoil().await;
    let changed = User { email: Some("new".to_owned()), ..user("ada") };
    assert_eq!(users.save(&changed).await.unwrap(), Saved::Created);
    assert_eq!(users.get("ada").await.unwrap(), changed);
    users.create(&heir).await.unwrap();
    assert_eq!(state::check(&users).await, 2);
}

#[tokio::test]
async fn a_foreign_end_of_a_life_fails_no_write() {
    for end in ["inf", "-inf", "1e300", "-1e300", "99999999999999.5"] {
        let conn = connect("foreign_end").await;
        let hour = Duration::from_secs(3600);
        let users = Resource::<User>::builder(conn.clone()).time_to_live(hour).build();
        let adding = conn.script(&ADD).key(state::key("expiry")).arg(end).arg("foreign");
        adding.run::<()>().await.unwrap();
        users.create(&user("a")).await.unwrap();
        users.save(&user("a")).await.unwrap();
        assert!(users.touch("a").await.unwrap());
        assert_eq!(users.get_by("email", "a@example.com").await.unwrap(), user("a"), "{end}");
        assert_eq!(users.pick("a").await.unwrap(), user("a"));
    }
}

static ADD: Script =
    Script::new("test.add", "return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])");

#[tokio::test]
async fn a_page_shows_no_id_and_no_value() {
    let users = users("shown").await;
    for id in ["secret", "hidden"] {
        users.create(&user(id)).await.unwrap();
    }
    let plain = users.conn().with_codec(Codec::Plain);
    plain.hash(users.key("hidden")).set("age", "garbage").await.unwrap();
    let page = users.list().await.unwrap();
    assert_eq!(page.unreadable, ["hidden"]);
    let shown = format!("{page:?}");
    assert!(!shown.contains("hidden") && !shown.contains("secret"), "{shown}");
    assert!(shown.contains("total: 2") && shown.contains("unreadable: 1"), "{shown}");
}

static SPOIL: Script = Script::new(
    "test.spoil",
    "local bytes = ''
    for byte in string.gmatch(ARGV[2], '%d+') do bytes = bytes .. string.char(byte) end
    redis.call('HSET', KEYS[1], ARGV[1], bytes)",
);

#[tokio::test]
async fn garbage_in_what_finds_records_is_left_behind() {
    let users = users("garbage_entries").await;
    // A number, a list, a map, a list of numbers, and what is no MessagePack.
    for garbage in ["", "1", "144", "128", "146,1,2", "193", "146,144", "146,145,144,144"] {
        users.save(&user("a")).await.unwrap();
        let spoil = users.conn().script(&SPOIL).key(state::key("entries"));
        spoil.arg("a").arg(garbage).run::<()>().await.unwrap();
        users.update("a", &json!({"city": "Oslo"})).await.unwrap();
        assert_eq!(users.list().where_eq("city", "Oslo").await.unwrap().items.len(), 1);
        users.delete("a").await.unwrap();
        users.conn().delete(state::key("lookup")).await.unwrap();
        users.conn().delete(state::key("unique")).await.unwrap();
    }
}

#[tokio::test]
async fn a_value_that_passed_on_when_its_index_was_lost_stays_with_the_new_owner() {
    let users = users("lost_index").await;
    users.create(&user("ada")).await.unwrap();
    users.conn().delete(state::key("unique")).await.unwrap();
    let heir = User { id: "bob".to_owned(), ..user("ada") };
    users.create(&heir).await.unwrap();

    users.delete("ada").await.unwrap();

    assert_eq!(users.get_by("email", "ada@example.com").await.unwrap(), heir);
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn an_error_shows_no_value() {
    let users = users("secrets").await;
    let secret = "s3cret";
    users.create(&user(secret)).await.unwrap();
    let thief = User { id: "x".to_owned(), ..user(secret) };
    for error in [
        users.create(&user(secret)).await.unwrap_err(),
        users.create(&thief).await.unwrap_err(),
        users.update(secret, &json!({"age": secret})).await.unwrap_err(),
        users.get(format!("{secret}2")).await.unwrap_err(),
    ] {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(secret), "{shown}");
        assert!(!error.is_retryable() && !error.is_timeout() && !error.is_outcome_unknown());
    }
    let shown = format!("{users:?} {:?} {:?}", users.create(&user(secret)), users.touch(secret));
    assert!(!shown.contains(secret), "{shown}");
}
