//! What is done by user.

use std::{collections::BTreeSet, time::Duration};

use redbrick_session::{Device, SessionId};

use crate::{cart, index_key, own, session_key, sessions, until};

#[tokio::test]
async fn a_list_tells_all_but_the_ids() {
    let sessions = sessions("list").await;
    let first = sessions
        .create("ada", cart("x"))
        .device(Device::new().user_agent("phone").ip([192, 0, 2, 7]))
        .role("editor")
        .email("ada@example.com")
        .metadata([("theme", "dark")])
        .await
        .unwrap();
    let second = sessions.create("ada", cart("y")).await.unwrap();
    sessions.create("eve", cart("z")).await.unwrap();
    until(
        "a later touch",
        async || sessions.get_and_touch(first.id()).await.unwrap().unwrap().last_seen(),
        |seen| *seen > second.last_seen(),
    )
    .await;

    let list = sessions.list("ada").await.unwrap();

    let [latest, other] = &list[..] else { panic!("{list:?}") };
    assert!(latest.is_current(first.id()) && other.is_current(second.id()), "by last use");
    assert!(!latest.is_current(second.id()));
    assert_eq!(latest.key, first.id().key());
    assert!(latest.device == first.device);
    assert_eq!(latest.role, first.role);
    assert_eq!(latest.email, first.email);
    assert_eq!(latest.metadata, first.metadata);
    assert_eq!(latest.created_at, first.created_at());
    assert!(latest.last_seen > first.last_seen() && latest.expires_at > first.expires_at());
    assert_eq!(sessions.count("ada").await.unwrap(), 2);
    assert!(sessions.list("nobody").await.unwrap().is_empty());
    assert_eq!(sessions.count("nobody").await.unwrap(), 0);
}

#[tokio::test]
async fn all_sessions_of_a_user_end_and_no_others() {
    let sessions = sessions("delete-all").await;
    let (ada, eve) = crate::neighbours();
    for _ in 0..3 {
        sessions.create(&ada, cart("x")).await.unwrap();
    }
    let other = sessions.create(&eve, cart("y")).await.unwrap();

    assert_eq!(sessions.delete_all(&ada).await.unwrap(), 3);

    assert_eq!(sessions.count(&ada).await.unwrap(), 0);
    assert_eq!(sessions.delete_all(&ada).await.unwrap(), 0);
    assert!(sessions.is_valid(other.id()).await.unwrap());
    assert_eq!(sessions.list(&eve).await.unwrap().len(), 1, "neighbours list their own");
}

#[tokio::test]
async fn all_but_the_current_one_end() {
    let sessions = sessions("delete-others").await;
    let current = sessions.create("ada", cart("x")).await.unwrap();
    for _ in 0..3 {
        sessions.create("ada", cart("x")).await.unwrap();
    }
    let eves = sessions.create("eve", cart("y")).await.unwrap();

    assert_eq!(sessions.delete_others("ada", current.id()).await.unwrap(), 3);
    assert_eq!(sessions.delete_others("ada", current.id()).await.unwrap(), 0);
    assert!(sessions.is_valid(current.id()).await.unwrap());
    assert_eq!(sessions.list("ada").await.unwrap()[0].key, current.id().key());

    // The session of somebody else keeps none.
    assert_eq!(sessions.delete_others("ada", eves.id()).await.unwrap(), 1);
    assert!(sessions.is_valid(eves.id()).await.unwrap());
}

#[tokio::test]
async fn more_sessions_than_one_script_handles_are_listed_and_ended() {
    let sessions = sessions("many").await;
    let mut ids = BTreeSet::new();
    for _ in 0..1_203 {
        ids.insert(sessions.create("ada", cart("x")).await.unwrap().id().key());
    }
    let list = sessions.list("ada").await.unwrap();
    assert_eq!(list.iter().map(|info| info.key).collect::<BTreeSet<_>>(), ids);
    assert_eq!(sessions.delete_all("ada").await.unwrap(), 1_203);
    assert!(sessions.list("ada").await.unwrap().is_empty());
}

#[tokio::test]
async fn sessions_that_have_expired_or_were_evicted_are_forgotten() {
    let (server, sessions) = own().await;
    let entries = || server.command(["ZCARD", &index_key("ada")]).unwrap().as_int().unwrap();
    let kept = sessions.create("ada", cart("kept")).await.unwrap();
    let evicted = sessions.create("ada", cart("evicted")).await.unwrap();
    let short = sessions.create("ada", cart("short")).time_to_live(Duration::from_millis(50));
    let short: SessionId = *short.await.unwrap().id();
    assert_eq!(entries(), 3);

    until("its end", async || sessions.count("ada").await.unwrap(), |count| *count == 2).await;
    assert_eq!(entries(), 2, "forgotten by count");
    assert!(!sessions.is_valid(&short).await.unwrap());

    server.command(["DEL", &session_key(evicted.id())]).unwrap();
    let list = sessions.list("ada").await.unwrap();
    assert!(list.len() == 1 && list[0].is_current(kept.id()), "{list:?}");
    assert_eq!((entries(), sessions.count("ada").await.unwrap()), (1, 1), "forgotten by list");

    // Whoever comes by cleans up, for everybody of the partition.
    for touch in [false, true] {
        server
            .command(["ZADD", &index_key("ada"), "1", "an entry from long ago, of somebody else"])
            .unwrap();
        match touch {
            false => drop(sessions.create("ada", cart("x")).await.unwrap()),
            true => assert!(sessions.touch(kept.id()).await.unwrap()),
        }
        assert_eq!(entries(), 2);
    }
    server
        .command(["ZADD", &index_key("ada"), "1", "an entry from long ago, of somebody else"])
        .unwrap();
    sessions.extend(kept.id(), Duration::from_secs(1)).await.unwrap();
    assert_eq!(entries(), 2);
}
