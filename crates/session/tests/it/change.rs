//! Changing a session.

use redbrick_session::{Device, Saved};

use crate::{cart, sessions};

#[tokio::test]
async fn data_is_replaced() {
    let sessions = sessions("update").await;
    let made = sessions.create("ada", cart("x")).role("editor").await.unwrap();

    assert!(sessions.update(made.id(), &cart("y")).await.unwrap());

    let read = sessions.get(made.id()).await.unwrap().unwrap();
    assert_eq!((read.version(), read.role.as_deref()), (2, Some("editor")));
    assert_eq!(read.data, cart("y"));
}

#[tokio::test]
async fn fields_of_metadata_are_set_and_removed_one_by_one() {
    let sessions = sessions("metadata").await;
    let made = sessions.create("ada", cart("x")).metadata([("a", "1"), ("b", "2")]).await.unwrap();

    let changes = [("a", Some("one")), ("b", None), ("c", Some("3")), ("d", None)];
    assert!(sessions.update_metadata(made.id(), changes).await.unwrap());
    assert!(sessions.update_metadata(made.id(), [("c", None), ("c", Some("4"))]).await.unwrap());
    assert!(sessions.update_metadata(made.id(), [("e", Some("5")), ("e", None)]).await.unwrap());
    assert!(sessions.update_metadata::<&str, &str>(made.id(), []).await.unwrap());

    let read = sessions.get(made.id()).await.unwrap().unwrap();
    let metadata: Vec<_> = read.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(metadata, [("a", "one"), ("c", "4")]);
    assert_eq!(read.data, cart("x"));
}

#[tokio::test]
async fn a_save_replaces_all_that_may_be_changed_and_can_be_repeated() {
    let sessions = sessions("save").await;
    let device = Device::new().user_agent("curl").ip([192, 0, 2, 7]);
    let create = sessions.create("ada", cart("x")).device(device).role("editor").email("a@b.c");
    let mut session = create.metadata([("a", "1"), ("b", "2"), ("", "3")]).await.unwrap();

    session.data = cart("y");
    session.device = Device::new().ip([192, 0, 2, 8]);
    session.role = None;
    session.email = Some("d@e.f".to_owned());
    session.metadata.remove("a");
    session.metadata.insert("c".to_owned(), "4".to_owned());
    assert_eq!(sessions.save(&mut session).await.unwrap(), Saved::Saved);
    assert_eq!(session.version(), 2);

    let read = sessions.get(session.id()).await.unwrap().unwrap();
    assert_eq!(read.data, cart("y"));
    assert!(read.device == session.device && read.role.is_none());
    assert_eq!(read.email.as_deref(), Some("d@e.f"));
    assert_eq!(read.metadata, session.metadata);
    assert_eq!((read.user(), read.created_at()), ("ada", session.created_at()));
    assert_eq!((read.expires_at(), read.version()), (session.expires_at(), 2));

    session.metadata.clear();
    assert_eq!(sessions.save(&mut session).await.unwrap(), Saved::Saved);
    let read = sessions.get(session.id()).await.unwrap().unwrap();
    assert!(read.metadata.is_empty() && read.version() == 3);
}

#[tokio::test]
async fn a_save_of_what_was_changed_meanwhile_is_refused() {
    let sessions = sessions("conflict").await;
    let mut session = sessions.create("ada", cart("x")).await.unwrap();
    let mut other = session.clone();
    let id = *session.id();
    assert_eq!(sessions.save(&mut other).await.unwrap(), Saved::Saved);
    session.data = cart("lost");
    assert_eq!(sessions.save(&mut session).await.unwrap(), Saved::Conflict);
    assert_eq!(session.version(), 1, "it is still what was read");

    for change in 0..2 {
        let mut session = sessions.get(&id).await.unwrap().unwrap();
        session.data = cart("lost");
        match change {
            0 => assert!(sessions.update(&id, &cart("kept")).await.unwrap()),
            _ => assert!(sessions.update_metadata(&id, [("k", Some("kept"))]).await.unwrap()),
        }
        assert_eq!(sessions.save(&mut session).await.unwrap(), Saved::Conflict);
    }
    let read = sessions.get(&id).await.unwrap().unwrap();
    assert_eq!((&read.data, read.metadata["k"].as_str()), (&cart("kept"), "kept"));

    // What is no change does not stand in the way.
    let mut session = read;
    assert!(sessions.touch(&id).await.unwrap() && sessions.update_activity(&id).await.unwrap());
    sessions.extend(&id, redbrick_session::DEFAULT_EXTENSION).await.unwrap();
    assert_eq!(sessions.save(&mut session).await.unwrap(), Saved::Saved);
}

#[tokio::test]
async fn a_save_after_the_end_says_so_and_brings_nothing_back() {
    let sessions = sessions("save-gone").await;
    let mut session = sessions.create("ada", cart("x")).await.unwrap();
    assert!(sessions.delete(session.id()).await.unwrap());

    assert_eq!(sessions.save(&mut session).await.unwrap(), Saved::Gone);

    assert!(sessions.get(session.id()).await.unwrap().is_none());
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
}
