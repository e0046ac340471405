//! What a new session holds.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use redbrick_core_conn::{Codec, Config, Conn};
use redbrick_session::{DEFAULT_TIME_TO_LIVE, Device, Error, Saved, Session, SessionId, Sessions};
use redbrick_testkit::unique;

use crate::{Cart, cart, connect, connect_as, own, sessions};

/// Whether two are alike in everything.
fn is_same<D: PartialEq>(one: &Session<D>, other: &Session<D>) -> bool {
    let times =
        |session: &Session<D>| [session.created_at(), session.last_seen(), session.expires_at()];
    (one.id(), one.user(), one.version()) == (other.id(), other.user(), other.version())
        && times(one) == times(other)
        && (&one.device, &one.role, &one.email) == (&other.device, &other.role, &other.email)
        && (&one.metadata, &one.data) == (&other.metadata, &other.data)
}

#[tokio::test]
async fn everything_that_was_said_is_read_back() {
    let sessions = sessions("everything").await;

    let made = sessions
        .create("ada", cart("book"))
        .device(Device::new().user_agent("curl/8").ip([192, 0, 2, 7]))
        .role("editor")
        .email("ada@example.com")
        .metadata([("theme", "dark"), ("lang", "en")])
        .await
        .unwrap();

    assert_eq!(made.user(), "ada");
    assert_eq!(made.version(), 1);
    assert_eq!(made.created_at(), made.last_seen());
    assert_eq!(made.expires_at(), made.created_at() + DEFAULT_TIME_TO_LIVE);
    assert_eq!(made.data, cart("book"));
    let read = sessions.get(made.id()).await.unwrap().unwrap();
    assert_eq!(read.id(), made.id());
    assert!(is_same(&read, &made), "{read:?} {made:?}");
    assert_eq!(read.device.user_agent.as_deref(), Some("curl/8"));
    assert_eq!(read.role.as_deref(), Some("editor"));
    assert_eq!(read.email.as_deref(), Some("ada@example.com"));
    assert_eq!(read.metadata["theme"], "dark");
    assert!(sessions.is_valid(made.id()).await.unwrap());
}

#[tokio::test]
async fn what_was_not_said_is_absent() {
    let sessions = sessions("nothing-said").await;

    let made = sessions.create("ada", Cart::default()).await.unwrap();

    let read = sessions.get(made.id()).await.unwrap().unwrap();
    assert!(read.device == Device::new() && read.role.is_none() && read.email.is_none());
    assert!(read.metadata.is_empty());
    assert!(is_same(&read, &made), "{read:?} {made:?}");
}

#[tokio::test]
async fn a_session_needs_no_data() {
    let sessions = Sessions::<()>::new(connect("no-data").await);
    let made = sessions.create("ada", ()).await.unwrap();
    assert_eq!(sessions.get(made.id()).await.unwrap().unwrap().user(), "ada");
}

#[tokio::test]
async fn names_keep_sessions_apart_and_are_part_of_their_keys() {
    let conn = connect("names").await;
    let web = Sessions::<Cart>::builder(conn.clone()).name("web").build();
    let api = Sessions::<Cart>::builder(conn.clone()).name("a:p{i}").build();
    let plain = Sessions::<Cart>::new(conn);
    assert_eq!(plain.prefix().to_string(), "session");
    assert_eq!(api.prefix().to_string(), "session:a%3Ap%7Bi%7D");

    let made = web.create("ada", cart("x")).await.unwrap();

    for (sessions, expected) in [(&web, 1), (&api, 0), (&plain, 0)] {
        assert_eq!(sessions.count("ada").await.unwrap(), expected);
        assert_eq!(sessions.get(made.id()).await.unwrap().is_some(), expected == 1);
    }
    assert_eq!(api.delete_all("ada").await.unwrap(), 0);
    assert!(!plain.delete(made.id()).await.unwrap());
    assert!(web.is_valid(made.id()).await.unwrap());
}

#[tokio::test]
async fn data_of_another_shape_is_an_error_and_the_session_lists_and_ends() {
    let conn = connect("shape").await;
    let old = Sessions::<u8>::new(conn.clone());
    let new = Sessions::<Cart>::new(conn);
    let made = old.create("ada", 7).await.unwrap();

    for result in [new.get(made.id()).await, new.get_and_touch(made.id()).await] {
        let err = result.unwrap_err();
        assert!(matches!(err, Error::Data(_)), "{err:?}");
        assert!(!err.is_retryable() && !err.is_outcome_unknown() && !err.is_timeout());
    }

    assert!(new.is_valid(made.id()).await.unwrap() && new.touch(made.id()).await.unwrap());
    let list = new.list("ada").await.unwrap();
    assert!(list.len() == 1 && list[0].is_current(made.id()));
    assert!(new.update(made.id(), &cart("mended")).await.unwrap());
    assert_eq!(new.get(made.id()).await.unwrap().unwrap().data, cart("mended"));
    assert!(new.delete(made.id()).await.unwrap());
}

#[tokio::test]
async fn readers_of_either_codec_understand_each_other() {
    let prefix = unique("codecs");
    let conn = connect_as(&prefix).await;
    for writes in [Codec::MessagePack, Codec::Json] {
        let writer = Sessions::<Cart>::new(conn.with_codec(writes));
        let made = writer.create("ada", cart("book")).await.unwrap();
        for reads in [Codec::MessagePack, Codec::Json] {
            let reader = Sessions::<Cart>::new(conn.with_codec(reads));
            assert_eq!(reader.get(made.id()).await.unwrap().unwrap().data, cart("book"));
        }
    }
    let plain = Sessions::<Cart>::new(conn.with_codec(Codec::Plain));
    let made = plain.create("ada", cart("book")).await.unwrap();
    assert_eq!(plain.get(made.id()).await.unwrap().unwrap().data, cart("book"));
}

/// What one release writes, the next one reads: the names of fields and keys stay.
#[tokio::test]
async fn the_fields_in_redis_are_those_that_were_agreed_on() {
    let (server, sessions) = own().await;
    let made = sessions
        .create("ada", cart("book"))
        .time_to_live(Duration::from_secs(60))
        .device(Device::new().user_agent("curl/8").ip([192, 0, 2, 7]))
        .role("editor")
        .email("ada@example.com")
        .metadata([("theme", "dark")])
        .await
        .unwrap();

    let reply = server.command(["HGETALL", &crate::session_key(made.id())]).unwrap();
    let parts = reply.as_array().unwrap();
    let fields: BTreeMap<_, _> = parts
        .chunks(2)
        .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_bytes().unwrap().to_vec()))
        .collect();
    let millis = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().to_string().into_bytes()
    };
    let expected: BTreeMap<_, _> = [
        ("user", b"ada".to_vec()),
        ("created", millis(made.created_at())),
        ("seen", millis(made.created_at())),
        ("idle", b"60000".to_vec()),
        ("ends", millis(made.created_at() + Duration::from_secs(60))),
        ("limit", b"0".to_vec()),
        ("version", b"1".to_vec()),
        ("data", b"\xb5\x01\x01\x00\x81\xa5items\x91\xa4book".to_vec()),
        ("o:agent", b"curl/8".to_vec()),
        ("o:ip", b"192.0.2.7".to_vec()),
        ("o:role", b"editor".to_vec()),
        ("o:email", b"ada@example.com".to_vec()),
        ("m:theme", b"dark".to_vec()),
    ]
    .map(|(field, value)| (field.to_owned(), value))
    .into();
    assert_eq!(fields, expected);

    let index =
        server.command(["ZRANGE", "session:{fdee}:index", "0", "-1", "WITHSCORES"]).unwrap();
    let [entry, score] = index.as_array().unwrap() else { panic!("{index:?}") };
    let entry = entry.as_bytes().unwrap();
    assert!(entry.len() == 35 && entry.ends_with(b"ada"), "{entry:?}");
    assert_eq!(score.as_bytes().unwrap(), expected["ends"]);
}

/// What an earlier release wrote, with a field that only a later one knows.
#[tokio::test]
async fn the_agreed_fields_are_read() {
    let (server, sessions) = own().await;
    let id: SessionId = format!("fdee{}", "07".repeat(32)).parse().unwrap();
    let key = "session:{fdee}:KEY".replace("KEY", &id.key().to_string());
    assert_eq!(key, crate::session_key(&id));
    let fields: [(&str, &[u8]); 11] = [
        ("user", b"ada"),
        ("created", b"1000"),
        ("seen", b"2500"),
        ("idle", b"60000"),
        ("ends", b"4000000000000"),
        ("limit", b"0"),
        ("version", b"7"),
        ("data", b"\xb5\x01\x01\x00\x82\xa5items\x91\xa4book\xa3new\x01"),
        ("o:role", b"editor"),
        ("o:new", b"new"),
        ("m:theme", b"dark"),
    ];
    for (field, value) in fields {
        let command = [b"HSET", key.as_bytes(), field.as_bytes(), value];
        server.command(command).unwrap();
    }

    let mut read = sessions.get(&id).await.unwrap().unwrap();

    let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    assert_eq!((read.user(), read.version(), &read.data), ("ada", 7, &cart("book")));
    assert_eq!((read.created_at(), read.last_seen()), (at(1_000), at(2_500)));
    assert_eq!(read.expires_at(), at(4_000_000_000_000));
    assert_eq!((read.role.as_deref(), read.metadata["theme"].as_str()), (Some("editor"), "dark"));
    read.role = None;
    read.metadata.clear();
    assert_eq!(sessions.save(&mut read).await.unwrap(), Saved::Saved);
    let reply = server.command(["HMGET", &key, "o:role", "m:theme", "o:new"]).unwrap();
    let [role, theme, new] = reply.as_array().unwrap() else { panic!("{reply:?}") };
    assert!(role.is_nil() && theme.is_nil());
    assert_eq!(new.as_str(), Some("new"), "what a later release knows is left alone");
    assert!(sessions.touch(&id).await.unwrap());
    assert_eq!(sessions.list("ada").await.unwrap()[0].expires_at, at(4_000_000_000_000));
    assert!(sessions.delete(&id).await.unwrap());
}

#[tokio::test]
async fn debug_shows_nothing_of_a_person() {
    let sessions = sessions("debug").await;
    let device = Device::new().user_agent("secret").ip([192, 0, 2, 7]);
    let create = sessions.create("secret", cart("secret")).device(device).role("secret");
    let create = create.email("secret").metadata([("secret", "secret")]);
    let mut shown = format!("{create:?} {sessions:?}");
    let made = create.await.unwrap();
    let list = sessions.list("secret").await.unwrap();
    shown += &format!("{made:?} {list:?} {:?} {:?}", made.device, made.id());
    for hidden in ["secret", "192.0.2", "192, 0", &made.id().expose()[4..]] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}

#[tokio::test]
async fn making_sessions_sends_nothing() {
    let conn = Conn::connect_lazy(Config::builder().url("redis://127.0.0.1:1")).unwrap();
    let sessions = Sessions::<Cart>::builder(conn)
        .name("x")
        .absolute_time_to_live(DEFAULT_TIME_TO_LIVE)
        .build();
    assert_eq!(sessions.prefix().to_string(), "session:x");
}
