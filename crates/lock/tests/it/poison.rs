//! No reply is taken for something else, whatever words of the protocol users give as names and holders.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use redbrick_core_conn::Conn;
use redbrick_lock::{Extended, Locks, Released, Written};
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

    let uncancelled = locks.lock(word).with_uncancelled(async |_| word).await.unwrap();
    assert_eq!(uncancelled, Some((word, Released::Released)));

    let guards = locks.lock_all([word, "other"]).await.unwrap().unwrap();
    let entered = locks.enter(word, guards.guards()[0].token()).await.unwrap().unwrap();
    assert_eq!(entered.name(), word.as_bytes());
    assert_eq!(guards.release().await.unwrap(), Released::Released);
    let near = ["a", "b"].map(|end| format!("{{{word}}}{end}"));
    let guards = locks.lock_all(&near).holder(word).await.unwrap().unwrap();
    assert_eq!(guards.release().await.unwrap(), Released::Released);

    let election = locks.election(word);
    let mut observer = election.observe().await.unwrap();
    let term = election.campaign().holder(word).await.unwrap().unwrap();
    assert_eq!(election.leader().await.unwrap().unwrap().holder, word);
    while observer.next().await.unwrap().is_none_or(|leader| leader.holder != word) {}
    assert_eq!(term.release().await.unwrap(), Released::Released);

    let rw_lock = locks.rw_lock(word);
    let reads = rw_lock.read().holder(word).await.unwrap().unwrap();
    assert_eq!(rw_lock.extend(reads.token(), LONG).await.unwrap(), Extended::Extended);
    assert_eq!(rw_lock.release(reads.token()).await.unwrap(), Released::Released);
    let writes = rw_lock.write().holder(word).await.unwrap().unwrap();
    assert_eq!(writes.release().await.unwrap(), Released::Released);

    let value = locks.fenced::<String>(word);
    assert_eq!(value.set(1, &word.to_owned()).await.unwrap(), Written::Written);
    assert_eq!(value.get().await.unwrap().as_deref(), Some(word));
    assert_eq!(value.delete(2).await.unwrap(), Written::Written);

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
