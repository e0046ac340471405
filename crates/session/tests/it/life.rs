//! How long sessions live.

use std::time::{Duration, SystemTime};

use redbrick_session::{DEFAULT_EXTENSION, Sessions};

use crate::{Cart, cart, connect, index_key, own, session_key, sessions, until};

const MINUTE: Duration = Duration::from_secs(60);

async fn ends<D: serde::de::DeserializeOwned>(
    sessions: &Sessions<D>,
    id: &redbrick_session::SessionId,
) -> (SystemTime, SystemTime) {
    let session = sessions.get(id).await.unwrap().unwrap();
    (session.last_seen(), session.expires_at())
}

/// Touches until the server's clock has moved on.
async fn touched_later(
    sessions: &Sessions<Cart>,
    id: &redbrick_session::SessionId,
    than: SystemTime,
) {
    until(
        "a later touch",
        async || {
            assert!(sessions.touch(id).await.unwrap());
            ends(sessions, id).await.0
        },
        |seen| *seen > than,
    )
    .await;
}

#[tokio::test]
async fn a_touch_begins_the_life_anew_and_reading_does_not() {
    let sessions = sessions("touch").await;
    let made = sessions.create("ada", cart("x")).time_to_live(MINUTE).await.unwrap();
    assert_eq!(made.expires_at(), made.created_at() + MINUTE);

    touched_later(&sessions, made.id(), made.last_seen()).await;

    let (seen, expires) = ends(&sessions, made.id()).await;
    assert_eq!(expires, seen + MINUTE);
    let touched = sessions.get_and_touch(made.id()).await.unwrap().unwrap();
    assert!(touched.last_seen() >= seen);
    assert_eq!(touched.expires_at(), touched.last_seen() + MINUTE);
    assert_eq!(touched.version(), 1, "a touch changes nothing that is saved");
    let before = ends(&sessions, made.id()).await;
    assert!(sessions.is_valid(made.id()).await.unwrap());
    sessions.list("ada").await.unwrap();
    assert_eq!(ends(&sessions, made.id()).await, before);
}

#[tokio::test]
async fn activity_is_noted_and_the_end_stays() {
    let sessions = sessions("activity").await;
    let made = sessions.create("ada", cart("x")).await.unwrap();

    let seen = until(
        "a later activity",
        async || {
            assert!(sessions.update_activity(made.id()).await.unwrap());
            ends(&sessions, made.id()).await.0
        },
        |seen| *seen > made.last_seen(),
    )
    .await;

    assert!(seen > made.created_at());
    assert_eq!(ends(&sessions, made.id()).await.1, made.expires_at());
}

#[tokio::test]
async fn an_extension_is_added_and_no_touch_takes_it_back() {
    let sessions = sessions("extend").await;
    let made = sessions.create("ada", cart("x")).time_to_live(MINUTE).await.unwrap();

    let end = sessions.extend(made.id(), DEFAULT_EXTENSION).await.unwrap();

    let expected = made.expires_at() + Duration::from_secs(3600);
    assert_eq!(end, Some(expected));
    assert_eq!(ends(&sessions, made.id()).await, (made.last_seen(), expected));
    touched_later(&sessions, made.id(), made.last_seen()).await;
    assert_eq!(ends(&sessions, made.id()).await.1, expected);
    assert_eq!(sessions.list("ada").await.unwrap()[0].expires_at, expected);
}

#[tokio::test]
async fn nothing_moves_the_absolute_end() {
    let sessions = Sessions::<Cart>::builder(connect("absolute").await)
        .time_to_live(10 * MINUTE)
        .absolute_time_to_live(11 * MINUTE)
        .build();
    let made = sessions.create("ada", cart("x")).await.unwrap();
    assert_eq!(made.expires_at(), made.created_at() + 10 * MINUTE);
    let limit = made.created_at() + 11 * MINUTE;

    assert_eq!(sessions.extend(made.id(), DEFAULT_EXTENSION).await.unwrap(), Some(limit));
    touched_later(&sessions, made.id(), made.last_seen()).await;
    assert_eq!(ends(&sessions, made.id()).await.1, limit);
    // A life that is longer than the absolute one is cut when it begins, and by touches.
    let long = sessions.create("ada", cart("x")).time_to_live(60 * MINUTE).await.unwrap();
    assert_eq!(long.expires_at(), long.created_at() + 11 * MINUTE);
    touched_later(&sessions, long.id(), long.last_seen()).await;
    assert_eq!(ends(&sessions, long.id()).await.1, long.created_at() + 11 * MINUTE);
}

#[tokio::test]
async fn a_session_that_has_expired_is_gone_for_every_call() {
    let sessions = sessions("expired").await;
    let mut made =
        sessions.create("ada", cart("x")).time_to_live(Duration::from_millis(50)).await.unwrap();
    let id = *made.id();

    until("its end", async || sessions.is_valid(&id).await.unwrap(), |valid| !valid).await;

    assert!(sessions.list("ada").await.unwrap().is_empty());
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
    assert!(sessions.get(&id).await.unwrap().is_none());
    assert!(!sessions.touch(&id).await.unwrap());
    assert!(sessions.get_and_touch(&id).await.unwrap().is_none());
    assert!(!sessions.update_activity(&id).await.unwrap());
    assert!(sessions.extend(&id, MINUTE).await.unwrap().is_none());
    assert!(!sessions.update(&id, &cart("y")).await.unwrap());
    assert!(!sessions.update_metadata(&id, [("k", Some("v"))]).await.unwrap());
    assert_eq!(sessions.save(&mut made).await.unwrap(), redbrick_session::Saved::Gone);
    assert!(!sessions.delete(&id).await.unwrap());
    assert_eq!(sessions.delete_all("ada").await.unwrap(), 0);
    assert!(!sessions.is_valid(&id).await.unwrap());
}

#[tokio::test]
async fn a_session_that_is_touched_outlives_its_first_end() {
    let sessions = sessions("outlives").await;
    let life = Duration::from_secs(2);
    let made = sessions.create("ada", cart("x")).time_to_live(life).await.unwrap();
    // Two of its lives; the pauses between touches are far shorter, also on a slow machine.
    until(
        "the second end",
        async || {
            let touched = sessions.get_and_touch(made.id()).await.unwrap();
            touched.expect("it is used all the time").last_seen()
        },
        |seen| *seen > made.created_at() + life * 2,
    )
    .await;
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
}

#[tokio::test]
async fn the_server_and_the_session_agree_on_its_end() {
    let (server, sessions) = own().await;
    let made = sessions.create("ada", cart("x")).time_to_live(MINUTE).await.unwrap();
    let left = |key: &str| server.command(["PTTL", key]).unwrap().as_int().unwrap();
    let key = session_key(made.id());
    // A minute may pass between the call and the question on no machine.
    for least in [1, 3_600_000, 2 * 3_600_000] {
        assert!((least..=least + 60_000).contains(&left(&key)), "{least} {}", left(&key));
        assert!(left(&index_key("ada")) >= left(&key) - 1_000);
        sessions.extend(made.id(), DEFAULT_EXTENSION).await.unwrap();
    }
    assert!(sessions.update(made.id(), &cart("y")).await.unwrap());
    assert!(sessions.update_activity(made.id()).await.unwrap());
    assert!(left(&key) > 0, "a change leaves the end where it is");
    // A short session after it does not end the index with itself.
    sessions.create("ada", cart("x")).time_to_live(Duration::from_secs(5)).await.unwrap();
    assert!(left(&index_key("ada")) > 3 * 3_600_000 - 1_000);
}

#[tokio::test]
async fn what_moves_the_end_of_a_session_moves_it_in_the_index() {
    let sessions = sessions("index-end").await;
    let short = Duration::from_secs(2);
    let create = async || {
        // Far longer than it takes to extend one of them.
        let made = sessions.create("ada", cart("x")).time_to_live(short).await;
        *made.unwrap().id()
    };
    let (extended, ending) = (create().await, create().await);
    assert!(sessions.extend(&extended, MINUTE).await.unwrap().is_some());

    until("its end", async || sessions.is_valid(&ending).await.unwrap(), |valid| !valid).await;

    assert_eq!(sessions.count("ada").await.unwrap(), 1, "by its first end it were gone");
    assert!(sessions.list("ada").await.unwrap()[0].is_current(&extended));
}

#[tokio::test]
async fn the_index_ends_no_earlier_than_what_it_lists() {
    let (server, sessions) = own().await;
    let index = index_key("ada");
    let made = sessions.create("ada", cart("x")).time_to_live(MINUTE).await.unwrap();
    let left = || server.command(["PTTL", &index]).unwrap().as_int().unwrap();
    // Half of it is more than may pass here.
    assert!((30_000..=60_000).contains(&left()), "{}", left());
    for call in ["create", "touch", "get_and_touch", "extend"] {
        server.command(["PEXPIRE", &index, "20000"]).unwrap();
        match call {
            "create" => drop(sessions.create("ada", cart("x")).await.unwrap()),
            "touch" => assert!(sessions.touch(made.id()).await.unwrap()),
            "get_and_touch" => drop(sessions.get_and_touch(made.id()).await.unwrap().unwrap()),
            _ => drop(sessions.extend(made.id(), MINUTE).await.unwrap().iter()),
        }
        assert!(left() > 30_000, "{call}: {}", left());
    }
}

#[tokio::test]
async fn a_session_whose_end_has_come_is_gone_before_its_key_is() {
    let (server, sessions) = own().await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    let (id, key) = (made.id(), session_key(made.id()));
    server.command(["HSET", &key, "ends", "1"]).unwrap();

    assert!(!sessions.touch(id).await.unwrap());
    assert!(sessions.get_and_touch(id).await.unwrap().is_none());
    assert!(!sessions.update_activity(id).await.unwrap());
    assert!(sessions.extend(id, MINUTE).await.unwrap().is_none());

    assert_ne!(server.command(["PTTL", &key]).unwrap().as_int(), Some(-1));
    assert_eq!(server.command(["HGET", &key, "ends"]).unwrap().as_str(), Some("1"));
}
