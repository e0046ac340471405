//! The end of one session.

use crate::{cart, own, session_key, sessions};

#[tokio::test]
async fn a_session_ends_once_and_the_others_go_on() {
    let sessions = sessions("delete").await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    let other = sessions.create("ada", cart("y")).await.unwrap();

    assert!(sessions.delete(made.id()).await.unwrap());
    assert!(!sessions.delete(made.id()).await.unwrap());

    assert!(sessions.get(made.id()).await.unwrap().is_none());
    assert!(sessions.is_valid(other.id()).await.unwrap());
    assert_eq!(sessions.count("ada").await.unwrap(), 1, "the index forgot it at once");
}

#[tokio::test]
async fn a_session_is_ended_by_the_key_that_the_list_shows() {
    let sessions = sessions("delete-key").await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    sessions.create("ada", cart("y")).await.unwrap();
    let list = sessions.list("ada").await.unwrap();
    let key = list.iter().find(|info| info.is_current(made.id())).unwrap().key;
    let key = key.to_string().parse().unwrap();

    assert!(sessions.delete_key("ada", &key).await.unwrap());
    assert!(!sessions.delete_key("ada", &key).await.unwrap());

    assert!(!sessions.is_valid(made.id()).await.unwrap());
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
}

#[tokio::test]
async fn a_key_ends_no_session_of_another_user() {
    let sessions = sessions("delete-key-other").await;
    let (ada, eve) = crate::neighbours();
    let made = sessions.create(&ada, cart("x")).await.unwrap();
    sessions.create(&eve, cart("y")).await.unwrap();

    assert!(!sessions.delete_key(&eve, &made.id().key()).await.unwrap());

    assert!(sessions.is_valid(made.id()).await.unwrap());
    assert_eq!(sessions.count(&ada).await.unwrap(), 1);
    assert!(sessions.delete_key(&ada, &made.id().key()).await.unwrap());
}

#[tokio::test]
async fn a_key_ends_a_session_that_the_index_has_lost() {
    let (server, sessions) = own().await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    server.command(["DEL", &crate::index_key("ada")]).unwrap();

    assert_eq!(sessions.count("ada").await.unwrap(), 0);
    assert!(sessions.touch(made.id()).await.unwrap());
    assert_eq!(sessions.count("ada").await.unwrap(), 1, "a touch lists it again");
    server.command(["DEL", &crate::index_key("ada")]).unwrap();
    assert!(sessions.delete_key("ada", &made.id().key()).await.unwrap());
    assert_eq!(server.command(["EXISTS", &session_key(made.id())]).unwrap().as_int(), Some(0));
}
