//! No reply is taken for something else, whatever words of the protocol users give as names and holders.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use redbrick_core_conn::Conn;
use redbrick_lock::{Extended, Locks, Released};
use redbrick_testkit::poison;

use crate::{LONG, connect, permits};

async fn every_call(locks: &Locks, word: &str) {
    let mut guard = locks.lock(word).holder(word).lease(LONG).await.unwrap().unwrap();
    assert!(locks.try_lock(word).holder(word).await.unwrap().is_none());
    let info = locks.info(word).await.unwrap().unwrap();
    assert_eq!((&*info.name_text(), &*info.holder), (word, word));
    assert!(locks.ttl(word).await.unwrap().is_some());
    assert_eq!(guard.extend(LONG).await.unwrap(), Extended::Extended);
    let token = *guard.token();
    assert_eq!(locks.extend(word, &token, LONG).await.unwrap(), Extended::Extended);
    assert_eq!(guard.release().await.unwrap(), Released::Released);
    assert_eq!(locks.release(word, &token).await.unwrap(), Released::Released);
    assert!(!locks.force_release(word).await.unwrap());
    assert_eq!(locks.with_lock(word, async |_| word).await.unwrap(), Some(word));
    assert_eq!(locks.mutex(word).with(async |_| word).await.unwrap(), Some(word));

    let semaphore = locks.semaphore(word, permits(1));
    let permit = semaphore.acquire().await.unwrap().unwrap();
    assert_eq!(semaphore.available().await.unwrap(), 0);
    assert_eq!(semaphore.extend(permit.token(), LONG).await.unwrap(), Extended::Extended);
    assert_eq!(semaphore.release(permit.token()).await.unwrap(), Released::Released);
    assert_eq!(semaphore.with(async |_| word).await.unwrap(), Some(word));
}

async fn attack(conn: &Conn) {
    for words in poison::lists() {
        let group = words.join("+");
        let locks = Locks::builder(conn.clone()).name(&group).holder(&group).build().unwrap();
        every_call(&locks, words[0]).await;
        let names: Vec<_> = words.iter().map(|word| locks.lock(word).holder(*word)).collect();
        let mut guards = Vec::new();
        for name in names {
            guards.extend(name.await.unwrap());
        }
        let list = locks.list().await.unwrap();
        assert_eq!(list.len(), guards.len());
        for info in list {
            assert_eq!(info.name_text(), info.holder);
        }
        for guard in guards {
            guard.release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn no_word_that_users_choose_leads_a_reply_astray() {
    let conn = connect("poison").await;
    for victim in 0..poison::VICTIMS {
        conn.set(format!("victim {victim}"), &poison::answer(victim)).await.unwrap();
    }
    let read = |victim: usize| {
        let conn = conn.clone();
        async move { conn.get::<String>(format!("victim {victim}")).await }
    };
    poison::beside("lock", attack(&conn), read).await;
}
