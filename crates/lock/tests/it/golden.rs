//! What lies on the server and goes over channels, byte for byte: two releases serve the same locks during an upgrade.

use redbrick_core_conn::{Conn, ErrorKind, Event, Token};
use redbrick_lock::{Extended, Locks, Released, Wait};
use tokio::time::timeout;

use crate::{LONG, PATIENCE, acquired, permits, server, until};

const LOCK: &str = "lock:default:{90}:job";
const FENCE: &str = "lock:default:{90}";

/// A token of that byte, and it as it is written.
fn token(byte: u8) -> Token {
    Token::from([byte; 16])
}

/// A waiter as it stands in the queue.
fn waiter(byte: u8, mailbox: &str, lease: u64, holder: &str) -> Vec<u8> {
    let parts: [&[u8]; 5] =
        [&[byte; 16], mailbox.as_bytes(), &lease.to_be_bytes(), &[0, 0, 0, 1], holder.as_bytes()];
    parts.concat()
}

fn lock(fence: u64, token: &[u8], holder: &str) -> Vec<u8> {
    [&fence.to_be_bytes(), token, holder.as_bytes()].concat()
}

#[tokio::test]
async fn a_lock_is_its_fence_its_token_and_its_holder() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let locks = Locks::builder(conn.clone()).holder("web-1:7").build().unwrap();
    let guard = acquired(&locks, "job", LONG).await;
    let stored = conn.get_bytes(LOCK).await.unwrap().expect("it is held");
    assert_eq!(stored, lock(guard.fence(), guard.token().as_bytes(), "web-1:7"));
    let fence = server.command(["GET", FENCE]).unwrap();
    assert_eq!(fence.as_str(), Some(&*guard.fence().to_string()));
    let token_of_it = *guard.token();
    assert_eq!(guard.release().await.unwrap(), Released::Released);
    let released = conn.get_bytes(format!("{LOCK}:released")).await.unwrap();
    assert_eq!(released.as_deref(), Some(&token_of_it.as_bytes()[..]));

    // As another release wrote it.
    conn.set_bytes(LOCK, lock(7, &[1; 16], "db-2:9").into()).time_to_live(LONG).await.unwrap();
    let info = locks.info("job").await.unwrap().expect("it is held");
    assert_eq!((info.fence, info.holder.as_str()), (7, "db-2:9"));
    assert_eq!(locks.extend("job", &token(1), LONG).await.unwrap(), Extended::Extended);
    assert_eq!(locks.release("job", &token(2)).await.unwrap(), Released::AlreadyLost);
    assert_eq!(locks.release("job", &token(1)).await.unwrap(), Released::Released);
}

#[tokio::test]
async fn permits_are_tokens_by_the_end_of_their_lease_and_what_each_has() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let locks = Locks::builder(conn.clone()).holder("web-1:7").build().unwrap();
    let semaphore = locks.semaphore("job", permits(3));
    let guard = semaphore.acquire_many(permits(2)).lease(LONG).await.unwrap().unwrap();
    let rw_lock = locks.rw_lock("job");
    let writes = rw_lock.write().lease(LONG).await.unwrap().unwrap();
    for (kind, guard, weight) in [("permits", &guard, 2_u32), ("rw", &writes, 1 << 20)] {
        let key = format!("{LOCK}:{kind}");
        let ends = server.command([b"ZSCORE", key.as_bytes(), guard.token().as_bytes()]).unwrap();
        assert!(ends.as_int().expect("milliseconds") > 1_700_000_000_000);
        let shares = format!("{key}:shares");
        let share = [b"HGET", shares.as_bytes(), guard.token().as_bytes()];
        let share = server.command(share).unwrap();
        let expected =
            [&guard.fence().to_be_bytes()[..], &weight.to_be_bytes(), b"web-1:7"].concat();
        assert_eq!(share.as_bytes(), Some(&*expected));
        let out = server.command(["HGET", &shares, "out"]).unwrap();
        assert_eq!(out.as_int(), Some(weight.into()));
    }
    assert_eq!(guard.release().await.unwrap(), Released::Released);
    assert!(!crate::exists(&server, &format!("{LOCK}:permits:shares")));
    assert!(crate::exists(&server, &format!("{LOCK}:permits:released")));
}

/// As another release has it written down.
#[tokio::test]
async fn who_is_told_is_told_in_these_bytes() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let locks = Locks::new(conn.clone());
    let guard = acquired(&locks, "job", LONG).await;
    let mailbox = "0123456789abcdef";
    let channel = format!("{FENCE}:{mailbox}");
    let mut told = match conn.subscribe().sharded(&channel).await {
        // Before Redis 7.
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            conn.subscribe().channel(&channel).await.unwrap()
        }
        sharded => sharded.unwrap(),
    };
    for (ticket, byte) in [("1", 1), ("2", 2)] {
        let waiter = waiter(byte, mailbox, 60_000, "db-2:9");
        let queue = format!("{LOCK}:queue");
        server.command([b"ZADD", queue.as_bytes(), ticket.as_bytes(), &waiter]).unwrap();
    }
    let fence = guard.fence();
    assert_eq!(guard.release().await.unwrap(), Released::Released);
    let mut next = async || loop {
        let event = timeout(PATIENCE, told.next()).await.expect("a message").expect("it is open");
        if let Event::Message(message) = event {
            return message.payload().to_vec();
        }
    };
    let granted = next().await;
    let stored = conn.get_bytes(LOCK).await.unwrap().expect("it is handed on");
    let own = u64::from_be_bytes(*stored.first_chunk().unwrap());
    assert!(own > fence);
    assert_eq!(stored, lock(own, &[1; 16], "db-2:9"));
    let (begin, at) = granted.split_last_chunk::<8>().unwrap();
    assert_eq!(begin, [&b"g"[..], &[1; 16], &own.to_be_bytes()].concat());
    assert!(u64::from_be_bytes(*at) > 1_700_000_000_000_000, "the server's time");
    let first = next().await;
    assert_eq!(first, [&b"f"[..], &[2; 16], &60_000_u64.to_be_bytes()].concat());
    assert_eq!(locks.release("job", &token(1)).await.unwrap(), Released::Released);
    assert_eq!(next().await[..17], [&b"g"[..], &[2; 16]].concat());
}

#[tokio::test]
async fn who_waits_stands_in_the_queue_with_its_mailbox_and_its_terms() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let locks = Locks::builder(conn.clone()).holder("web-1:7").build().unwrap();
    let _guard = acquired(&locks, "job", LONG).await;
    let waiting = tokio::spawn(locks.lock("job").lease(LONG).wait(Wait::Forever).into_future());
    until("it waits", async || locks.info("job").await.unwrap().unwrap().waiting == 1).await;
    let queue = server.command(["ZRANGE", &format!("{LOCK}:queue"), "0", "-1", "WITHSCORES"]);
    let queue = queue.unwrap();
    let [member, ticket] = queue.as_array().unwrap() else { panic!("one waits: {queue:?}") };
    let member = member.as_bytes().unwrap();
    let mailbox = std::str::from_utf8(&member[16..32]).unwrap();
    assert!(mailbox.bytes().all(|byte| byte.is_ascii_hexdigit()), "{mailbox}");
    assert_eq!(member[16..], waiter(0, mailbox, 120_000, "web-1:7")[16..]);
    let micros = ticket.as_int().expect("a whole number");
    assert!(micros > 1_700_000_000_000_000, "microseconds since 1970: {micros}");
    waiting.abort();
}
