//! What users may send, and what other programs may have left in the keys.

use std::time::{Duration, SystemTime};

use redbrick_session::{Device, Error, Saved, SessionId, Sessions};
use redbrick_testkit::Server;
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};

use crate::{Cart, cart, connect, index_key, own, session_key};

#[tokio::test]
async fn any_text_is_a_name_a_user_and_a_field() {
    let conn = connect("texts").await;
    let long = "x".repeat(65_536);
    for text in
        ["", " ", "{}", "{a}{b", "}", ":", "a:b", "a/../b", "\0", "*?[]\\%", "é\n\"'", &long]
    {
        let sessions = Sessions::<String>::builder(conn.clone()).name(text).build();
        let create = sessions.create(text, text.to_owned()).role(text).email(text);
        let create = create.device(Device::new().user_agent(text)).metadata([(text, text)]);
        let made = create.await.unwrap();
        sessions.create("neighbour", String::new()).await.unwrap();

        assert!(
            sessions.update_metadata(made.id(), [(text, Some(text)), ("z", None)]).await.unwrap()
        );
        let read = sessions.get(made.id()).await.unwrap().unwrap();
        assert!(read.user() == text && read.data == text && read.metadata[text] == text);
        assert_eq!(read.metadata.len(), 1);
        assert!(read.role == made.role && read.email == made.email && read.device == made.device);
        assert_eq!(sessions.list(text).await.unwrap()[0].key, made.id().key());
        assert!(sessions.touch(made.id()).await.unwrap());
        assert_eq!(sessions.delete_all(text).await.unwrap(), 1);
        assert_eq!(sessions.count("neighbour").await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_name_of_any_bytes_is_a_name() {
    let conn = connect("bytes").await;
    for name in [b"\xff\0".as_slice(), b"", b"{\xfe}"] {
        let sessions = Sessions::<()>::builder(conn.clone()).name(name).build();
        let made = sessions.create("ada", ()).await.unwrap();
        assert_eq!(sessions.count("ada").await.unwrap(), 1);
        assert!(sessions.delete(made.id()).await.unwrap());
    }
}

#[tokio::test]
async fn much_metadata_and_big_data_fit() {
    let sessions = Sessions::<String>::new(connect("big").await);
    let metadata = || (0..10_000).map(|n| (n.to_string(), "v"));
    let big = "x".repeat(1 << 20);
    let mut made = sessions.create("ada", big.clone()).metadata(metadata()).await.unwrap();
    assert_eq!(sessions.save(&mut made).await.unwrap(), Saved::Saved);
    let changes = metadata().map(|(key, value)| (key, Some(value)));
    assert!(sessions.update_metadata(made.id(), changes).await.unwrap());
    let read = sessions.get_and_touch(made.id()).await.unwrap().unwrap();
    assert!(read.data == big && read.metadata.len() == 10_000);
    assert_eq!(sessions.list("ada").await.unwrap()[0].metadata.len(), 10_000);
    assert!(sessions.delete(made.id()).await.unwrap());
}

/// Cannot be encoded when it holds nothing.
#[derive(Clone, Debug, Deserialize)]
struct Picky(Option<u8>);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(number) => serializer.serialize_u8(number),
            None => Err(S::Error::custom("nothing to write")),
        }
    }
}

#[tokio::test]
async fn data_that_cannot_be_encoded_is_refused_before_anything_is_sent() {
    let server = Server::start().unwrap();
    let conn = redbrick_core_conn::Conn::connect(server.url()).await.unwrap();
    let sessions = Sessions::<Picky>::new(conn);
    let mut made = sessions.create("ada", Picky(Some(7))).await.unwrap();
    made.data = Picky(None);

    let cost = server.cost(async {
        let errors = [
            sessions.create("ada", Picky(None)).await.unwrap_err(),
            sessions.update(made.id(), &Picky(None)).await.unwrap_err(),
            sessions.save(&mut made).await.unwrap_err(),
        ];
        for err in errors {
            assert!(matches!(err, Error::Data(_)), "{err:?}");
            assert!(!err.to_string().contains("nothing to write"), "its source says it: {err}");
        }
    });
    assert_eq!(cost.await.unwrap(), "");
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
    assert_eq!(made.version(), 1);
}

#[tokio::test]
async fn lives_are_cut_to_what_can_be() {
    let conn = connect("lives").await;
    for absolute in [None, Some(Duration::MAX), Some(Duration::ZERO)] {
        let sessions = Sessions::<Cart>::builder(conn.clone()).absolute_time_to_live(absolute);
        let sessions = sessions.time_to_live(Duration::MAX).build();
        let made = sessions.create("ada", cart("x")).await.unwrap();
        let lives = made.expires_at().duration_since(made.created_at()).unwrap();
        let id = made.id();
        if absolute == Some(Duration::ZERO) {
            assert_eq!(lives, Duration::from_millis(1));
            crate::until("its end", async || sessions.touch(id).await.unwrap(), |lives| !lives)
                .await;
            continue;
        }
        assert_eq!(lives, redbrick_core_conn::LONGEST_TIME_TO_LIVE);
        for _ in 0..3 {
            let end = sessions.extend(id, Duration::MAX).await.unwrap().unwrap();
            assert!(end >= made.expires_at() && end <= made.expires_at() + crate::PATIENCE);
            assert!(sessions.touch(id).await.unwrap());
            assert!(sessions.extend(id, Duration::ZERO).await.unwrap().is_some());
        }
        let mut read = sessions.get(id).await.unwrap().unwrap();
        assert!(read.expires_at() >= made.expires_at());
        assert_eq!(sessions.save(&mut read).await.unwrap(), Saved::Saved);
        let short = sessions.create("ada", cart("x")).time_to_live(Duration::ZERO).await.unwrap();
        assert_eq!(short.expires_at(), short.created_at() + Duration::from_millis(1));
        // The short one may have ended by itself.
        assert!(matches!(sessions.delete_all("ada").await.unwrap(), 1 | 2));
    }
}

/// Every call that needs what is stored in a session.
async fn assert_damaged(sessions: &Sessions<Cart>, id: &SessionId, changes_too: bool) {
    let mut errors = vec![
        ("get", sessions.get(id).await.unwrap_err()),
        ("touch", sessions.touch(id).await.unwrap_err()),
        ("get_and_touch", sessions.get_and_touch(id).await.unwrap_err()),
        ("activity", sessions.update_activity(id).await.unwrap_err()),
    ];
    if changes_too {
        errors.push(("update", sessions.update(id, &cart("y")).await.unwrap_err()));
        let changes = [("k", Some("v"))];
        errors.push(("metadata", sessions.update_metadata(id, changes).await.unwrap_err()));
    }
    for (call, err) in errors {
        assert!(matches!(err, Error::Damaged(_)), "{call}: {err:?}");
        assert!(!err.is_retryable() && !err.is_outcome_unknown() && !err.is_timeout(), "{call}");
    }
}

#[tokio::test]
async fn a_session_that_became_another_type_can_be_ended() {
    let (server, sessions) = own().await;
    for by in ["id", "key", "user"] {
        let made = sessions.create("ada", cart("x")).await.unwrap();
        let (id, good) = (*made.id(), sessions.create("ada", cart("y")).await.unwrap());
        server.command(["SET", &session_key(&id), "garbage"]).unwrap();

        assert_damaged(&sessions, &id, true).await;
        let err = sessions.is_valid(&id).await.unwrap_err();
        assert!(matches!(err, Error::Damaged(_)), "{err:?}");
        let err = sessions.extend(&id, Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(err, Error::Damaged(_)), "{err:?}");
        let err = sessions.save(&mut made.clone()).await.unwrap_err();
        assert!(matches!(err, Error::Damaged(_)), "{err:?}");
        let list = sessions.list("ada").await.unwrap();
        assert!(list.len() == 1 && list[0].is_current(good.id()), "{list:?}");

        match by {
            "id" => assert!(sessions.delete(&id).await.unwrap()),
            "key" => assert!(sessions.delete_key("ada", &id.key()).await.unwrap()),
            _ => assert_eq!(sessions.delete_others("ada", good.id()).await.unwrap(), 1),
        }
        assert!(!sessions.is_valid(&id).await.unwrap());
        assert!(sessions.delete(good.id()).await.unwrap());
        // Only where the session could name its user no more, its entry stays until a list finds it.
        assert!(sessions.list("ada").await.unwrap().is_empty());
        assert_eq!(sessions.count("ada").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_session_with_spoilt_fields_lists_and_ends() {
    let (server, sessions) = own().await;
    for (field, garbage) in [
        ("idle", "soon"),
        ("ends", ""),
        ("limit", "-1"),
        ("ends", "1e300"),
        ("idle", "inf"),
        ("ends", "99999999999999999999"),
        ("created", "x"),
        ("seen", "-5"),
        ("version", "1.5"),
    ] {
        let made = sessions.create("ada", cart("x")).await.unwrap();
        let id = made.id();
        server.command(["HSET", &session_key(id), field, garbage]).unwrap();
        match field {
            "version" => {
                let err = sessions.get(id).await.unwrap_err();
                assert!(matches!(err, Error::Damaged(_)), "{err:?}");
                let err = sessions.update(id, &cart("y")).await.unwrap_err();
                assert!(matches!(err, Error::Damaged(_)), "{err:?}");
            }
            "created" | "seen" => {
                let err = sessions.get(id).await.unwrap_err();
                assert!(matches!(err, Error::Damaged(_)), "{err:?}");
                assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
            }
            _ => {
                let err = sessions.touch(id).await.unwrap_err();
                assert!(matches!(err, Error::Damaged(_)), "{field}: {err:?}");
                if field != "idle" {
                    let err = sessions.extend(id, Duration::from_secs(1)).await.unwrap_err();
                    assert!(matches!(err, Error::Damaged(_)), "{field}: {err:?}");
                }
                assert!(sessions.update(id, &cart("y")).await.unwrap());
            }
        }
        let list = sessions.list("ada").await.unwrap();
        assert_eq!(list.len(), 1, "{field}");
        if field == "created" {
            assert_eq!(list[0].created_at, SystemTime::UNIX_EPOCH);
        }
        assert!(sessions.is_valid(id).await.unwrap());
        assert!(sessions.delete(id).await.unwrap());
        assert_eq!(sessions.count("ada").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_hash_without_a_user_is_no_session() {
    let (server, sessions) = own().await;
    let mut made = sessions.create("ada", cart("x")).await.unwrap();
    let id = *made.id();
    server.command(["HDEL", &session_key(&id), "user"]).unwrap();
    assert!(sessions.get(&id).await.unwrap().is_none() && !sessions.is_valid(&id).await.unwrap());
    assert!(
        !sessions.touch(&id).await.unwrap() && !sessions.update(&id, &cart("y")).await.unwrap()
    );
    assert!(sessions.extend(&id, Duration::from_secs(1)).await.unwrap().is_none());
    assert_eq!(sessions.save(&mut made).await.unwrap(), Saved::Gone);
    assert!(sessions.list("ada").await.unwrap().is_empty());
    assert_eq!(sessions.delete_all("ada").await.unwrap(), 1);
    assert_eq!(server.command(["DBSIZE"]).unwrap().as_int(), Some(0));
}

#[tokio::test]
async fn data_and_fields_of_another_program_are_told_apart() {
    let (server, sessions) = own().await;
    let made = sessions.create("ada", cart("x")).metadata([("k", "v")]).await.unwrap();
    let key = session_key(made.id());
    // Bytes that are no text, in our fields and beside them.
    let spoil =
        |field: &[u8]| server.command([b"HSET", key.as_bytes(), field, b"\xff\xfe"]).unwrap();
    for field in [b"m:k".as_slice(), b"o:role", b"o:ip", b"o:agent"] {
        spoil(field);
    }
    let read = sessions.get(made.id()).await.unwrap().unwrap();
    assert!(read.metadata.is_empty() && read.role.is_none() && read.device == Device::new());
    spoil(b"data");
    let err = sessions.get(made.id()).await.unwrap_err();
    assert!(matches!(err, Error::Data(_)), "{err:?}");
    server.command(["HDEL", &key, "data"]).unwrap();
    let err = sessions.get(made.id()).await.unwrap_err();
    assert!(matches!(err, Error::Damaged(_)), "{err:?}");
    spoil(b"\xff");
    let err = sessions.get(made.id()).await.unwrap_err();
    assert!(matches!(err, Error::Damaged(_)), "{err:?}");
    spoil(b"user");
    assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
    let err = sessions.get_and_touch(made.id()).await.unwrap_err();
    assert!(matches!(err, Error::Damaged(_)), "{err:?}");
    assert!(sessions.delete(made.id()).await.unwrap());
}

#[tokio::test]
async fn a_spoilt_index_keeps_nobody_logged_in_and_nobody_out() {
    let (server, sessions) = own().await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    server.command(["SET", &index_key("ada"), "garbage"]).unwrap();
    let errors = [
        sessions.list("ada").await.unwrap_err(),
        sessions.count("ada").await.unwrap_err(),
        sessions.delete_all("ada").await.unwrap_err(),
        sessions.delete_others("ada", made.id()).await.unwrap_err(),
        sessions.create("ada", cart("y")).await.unwrap_err(),
        sessions.touch(made.id()).await.unwrap_err(),
    ];
    for err in errors {
        assert!(matches!(err, Error::Damaged(_)), "{err:?}");
    }
    assert!(sessions.is_valid(made.id()).await.unwrap(), "nothing has changed");
    assert_eq!(server.command(["DBSIZE"]).unwrap().as_int(), Some(2));
    assert!(sessions.get(made.id()).await.unwrap().is_some());
    assert!(sessions.delete(made.id()).await.unwrap());

    server.command(["DEL", &index_key("ada")]).unwrap();
    for entry in ["", "short", &"x".repeat(31), &"x".repeat(32), &"x".repeat(100)] {
        server.command(["ZADD", &index_key("ada"), "9000000000000", entry]).unwrap();
    }
    let made = sessions.create("", cart("x")).await.unwrap();
    server.command(["RENAME", &index_key("ada"), "kept"]).unwrap();
    server.command(["ZUNIONSTORE", &index_key(""), "2", "kept", &index_key("")]).unwrap();
    let list = sessions.list("").await.unwrap();
    assert!(list.len() == 1 && list[0].is_current(made.id()), "{list:?}");
    assert_eq!(sessions.delete_all("").await.unwrap(), 1);
}

#[tokio::test]
async fn a_create_that_is_given_up_leaves_a_whole_session_or_none() {
    let (server, sessions) = own().await;
    for polls in 0_u32..200 {
        let create = sessions.create("ada", cart("x")).metadata([("k", "v")]);
        let mut create = create.into_future();
        // Given up before it is sent, while it is under way, or when it is done.
        for _ in 0..polls % 4 {
            let polled = tokio::time::timeout(Duration::ZERO, &mut create).await;
            if polled.is_ok() {
                break;
            }
        }
    }
    // What was given up may still be under way; this comes behind it on the same link.
    let list = sessions.list("ada").await.unwrap();
    assert!(list.iter().all(|info| info.metadata.len() == 1));
    for info in &list {
        assert!(
            sessions.delete_key("ada", &info.key).await.unwrap(),
            "by its key, whose id nobody has"
        );
    }
    assert_eq!(server.command(["DBSIZE"]).unwrap().as_int(), Some(0));
}
