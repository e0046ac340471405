//! No reply is taken for something else, whatever words of the protocol users bring.

use redbrick_core_conn::Conn;
use redbrick_session::{Device, Saved, Sessions};
use redbrick_testkit::poison;

use crate::connect;

/// Every public call, with the words wherever words go.
async fn attack(conn: &Conn, words: &[&'static str]) {
    let (first, last) = (words[0], words[words.len() - 1]);
    let data: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let sessions = Sessions::<Vec<String>>::builder(conn.clone()).name(first).build();
    let create = sessions.create(first, data.clone());
    let create = create.device(Device::new().user_agent(last)).role(first).email(last);
    let create = create.metadata(words.iter().map(|word| (*word, *word)));
    let mut session = create.await.unwrap();
    let id = *session.id();
    for read in [sessions.get(&id).await, sessions.get_and_touch(&id).await] {
        let read = read.unwrap().unwrap();
        assert_eq!((read.user(), &read.data), (first, &data));
        assert_eq!(read.device.user_agent.as_deref(), Some(last));
        assert_eq!((read.role.as_deref(), read.email.as_deref()), (Some(first), Some(last)));
        assert_eq!(read.metadata, session.metadata);
    }
    assert!(sessions.touch(&id).await.unwrap() && sessions.update_activity(&id).await.unwrap());
    assert!(sessions.extend(&id, redbrick_session::DEFAULT_EXTENSION).await.unwrap().is_some());
    let reversed: Vec<_> = data.iter().rev().cloned().collect();
    session.metadata = words.iter().rev().map(|word| ((*word).into(), last.into())).collect();
    session.data.clone_from(&reversed);
    assert_eq!(sessions.save(&mut session).await.unwrap(), Saved::Saved);
    assert_eq!(sessions.save(&mut session.clone()).await.unwrap(), Saved::Saved);
    assert_eq!(sessions.save(&mut session).await.unwrap(), Saved::Conflict);
    let changes = words.iter().map(|word| (*word, Some(first)));
    assert!(sessions.update_metadata(&id, changes).await.unwrap());
    assert!(sessions.update_metadata(&id, [(first, None::<&str>)]).await.unwrap());
    assert!(sessions.update(&id, &data).await.unwrap());
    assert!(sessions.is_valid(&id).await.unwrap());
    let other = sessions.create(first, data).await.unwrap();
    let list = sessions.list(first).await.unwrap();
    assert_eq!((list.len(), sessions.count(first).await.unwrap()), (2, 2));
    let info = list.iter().find(|info| info.is_current(&id)).unwrap();
    assert_eq!(info.role.as_deref(), Some(first));
    assert_eq!(sessions.delete_others(first, &id).await.unwrap(), 1);
    assert!(!sessions.delete_key(first, &other.id().key()).await.unwrap());
    assert!(sessions.delete(&id).await.unwrap() && !sessions.touch(&id).await.unwrap());
    assert_eq!(sessions.save(&mut session).await.unwrap(), Saved::Gone);
    assert_eq!(sessions.delete_all(first).await.unwrap(), 0);
}

#[tokio::test]
async fn words_of_the_protocol_are_words() {
    let conn = connect("poison").await;
    for victim in 0..poison::VICTIMS {
        conn.set(format!("victim {victim}"), &poison::answer(victim)).await.unwrap();
    }
    let read = |victim| {
        let conn = conn.clone();
        async move { conn.get::<String>(format!("victim {victim}")).await }
    };
    for words in poison::lists() {
        poison::beside(&format!("{words:?}"), attack(&conn, &words), read).await;
    }
}

/// Another program writes the words into the keys.
#[tokio::test]
async fn words_in_spoilt_keys_are_words_too() {
    let conn = connect("poison-spoilt").await;
    for victim in 0..poison::VICTIMS {
        conn.set(format!("victim {victim}"), &poison::answer(victim)).await.unwrap();
    }
    let read = |victim| {
        let conn = conn.clone();
        async move { conn.get::<String>(format!("victim {victim}")).await }
    };
    let sessions = Sessions::<()>::new(conn.clone());
    let plain = conn.with_codec(redbrick_core_conn::Codec::Plain);
    for word in poison::WORDS {
        let attack = async {
            let id = *sessions.create("ada", ()).await.unwrap().id();
            let record = plain.hash(crate::session_key(&id));
            for field in ["user", "idle", "ends", "limit", "version", "data", word] {
                record.set(field, word).await.unwrap();
            }
            plain.sorted_set(crate::index_key("ada")).add(word, 9e12).await.unwrap();
            let _ = sessions.get(&id).await.unwrap_err();
            let _ = sessions.touch(&id).await.unwrap_err();
            let _ = sessions.get_and_touch(&id).await.unwrap_err();
            let _ = sessions.update(&id, &()).await.unwrap_err();
            let _ = sessions.extend(&id, redbrick_session::DEFAULT_EXTENSION).await.unwrap_err();
            assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
            assert_eq!(sessions.delete_all("ada").await.unwrap(), 1);
        };
        poison::beside(word, attack, read).await;
    }
}
