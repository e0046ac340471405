use std::{num::NonZeroU32, time::Duration};

use redbrick_core_conn::{Conn, ErrorKind};
use redbrick_lock::{Error, LONGEST_LEASE, Locks, Released, SHORTEST_LEASE, Wait};

use crate::{EAGER, LONG, acquired, connect, locks, locks_on, permits, server};

#[tokio::test]
async fn a_name_is_any_bytes_of_any_length() {
    let locks = locks("names").await;
    let big = vec![b'x'; 64 << 10];
    let names: [&[u8]; 12] =
        [b"", b" ", b"{", b"}", b"{}", b"a b", b"a/b", b"a:b", b"\0", b"%", b"*", &big];
    let mut guards = Vec::new();
    for name in names {
        guards.push(locks.lock(name).await.unwrap().expect("a lock of its own"));
        assert_eq!(locks.info(name).await.unwrap().unwrap().name, name);
        let semaphore = locks.semaphore(name, permits(1));
        semaphore.acquire().await.unwrap().unwrap().release().await.unwrap();
    }
    let invalid: &[u8] = &[0xff, 0xfe];
    guards.push(locks.lock(invalid).await.unwrap().unwrap());

    assert_eq!(locks.list().await.unwrap().len(), names.len() + 1);
    for guard in guards {
        let name = guard.name().to_vec();
        assert!(locks.try_lock(&name).await.unwrap().is_none());
        assert_eq!(guard.release().await.unwrap(), Released::Released);
    }
}

#[tokio::test]
async fn a_group_and_a_holder_are_any_text() {
    let conn = connect("groups-any").await;
    let big = "x".repeat(64 << 10);
    for text in ["", " ", "{}", "a:b", "\0", "%", "*", "é\n", big.as_str()] {
        let locks = Locks::builder(conn.clone()).name(text).holder(text).build().unwrap();
        let _guard = locks.lock("job").await.unwrap().expect("nobody has it in this group");
        assert_eq!(locks.info("job").await.unwrap().unwrap().holder, text);
        assert_eq!(locks.list().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_lease_out_of_range_is_refused_before_anything_is_sent() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let locks = Locks::new(conn.clone());
    let mut guard = acquired(&locks, "held", LONG).await;
    let token = *guard.token();
    let semaphore = locks.semaphore("jobs", permits(1));
    let mut permit = semaphore.acquire().await.unwrap().unwrap();

    let too_short = SHORTEST_LEASE - Duration::from_micros(1);
    for lease in [Duration::ZERO, too_short, LONGEST_LEASE * 2, Duration::MAX] {
        let cost = server
            .cost(async {
                let mut errors = vec![
                    Locks::builder(conn.clone()).lease(lease).build().unwrap_err(),
                    locks.lock("job").lease(lease).await.unwrap_err(),
                    locks.lock("job").lease(lease).with(async |_| ()).await.unwrap_err(),
                    locks.extend("held", &token, lease).await.unwrap_err(),
                    guard.extend(lease).await.unwrap_err(),
                    semaphore.acquire().lease(lease).await.unwrap_err(),
                    semaphore.acquire().lease(lease).with(async |_| ()).await.unwrap_err(),
                    permit.extend(lease).await.unwrap_err(),
                ];
                errors.push(semaphore.extend(permit.token(), lease).await.unwrap_err());
                for error in errors {
                    assert!(matches!(error, Error::Lease), "{error:?}");
                    assert!(!error.is_retryable() && !error.is_outcome_unknown());
                }
            })
            .await;
        assert_eq!(cost.unwrap(), "");
    }
    assert!(guard.is_valid() && permit.is_valid(), "what is held stays so");
    let too_long = Locks::builder(conn.clone()).fence_memory(Duration::MAX).build();
    assert!(matches!(too_long, Err(Error::FenceMemory)));

    let longest = Locks::builder(conn).lease(LONGEST_LEASE).fence_memory(LONGEST_LEASE);
    let locks = longest.build().unwrap();
    assert!(acquired(&locks, "longest", LONGEST_LEASE).await.remaining() > LONGEST_LEASE / 2);
    let shortest = locks.lock("shortest").lease(SHORTEST_LEASE).await;
    assert!(matches!(shortest, Ok(Some(_)) | Err(Error::Late)), "{shortest:?}");
}

#[tokio::test]
async fn waits_of_no_length_and_of_any_length_are_waits() {
    let locks = locks("waits-any").await;
    let guard = acquired(&locks, "job", LONG).await;
    let one = NonZeroU32::MIN;
    for wait in [
        Wait::Never,
        Wait::For(Duration::ZERO),
        Wait::Attempts { attempts: one, delay: Duration::MAX },
    ] {
        assert!(locks.lock("job").wait(wait).await.unwrap().is_none(), "{wait:?}");
    }
    let long = tokio::spawn({
        let locks = locks.clone();
        async move { locks.lock("job").wait(Wait::For(Duration::MAX)).await }
    });
    guard.release().await.unwrap();
    assert!(long.await.unwrap().unwrap().is_some());
    let most = locks.semaphore("most", NonZeroU32::MAX);
    let _permit = most.acquire().await.unwrap().unwrap();
    assert_eq!(most.available().await.unwrap(), u32::MAX - 1);
}

const LOCK: &str = "lock:default:{90}:job";
const FENCE: &str = "lock:default:{90}";
const PERMITS: &str = "lock:default:{90}:job:permits";

#[tokio::test]
async fn another_type_at_a_key_is_an_error_until_it_is_gone() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let token = acquired(&locks, "job", LONG).await.into_token();
    let wrong = |error: Error| {
        assert!(!error.is_retryable() && !error.is_outcome_unknown(), "{error:?}");
        let Error::Conn(error) = error else { panic!("{error:?}") };
        assert_eq!(error.kind(), ErrorKind::WrongType, "{error:?}");
    };

    server.command(["DEL", LOCK]).unwrap();
    server.command(["RPUSH", LOCK, "garbage"]).unwrap();
    wrong(locks.lock("job").await.unwrap_err());
    wrong(locks.release("job", &token).await.unwrap_err());
    wrong(locks.extend("job", &token, LONG).await.unwrap_err());
    wrong(locks.info("job").await.unwrap_err());
    assert!(locks.is_locked("job").await.unwrap(), "something is there");
    assert_eq!(locks.ttl("job").await.unwrap(), Some(Duration::MAX));
    assert!(locks.list().await.unwrap().is_empty(), "what is no lock is left out");
    assert!(locks.force_release("job").await.unwrap());

    server.command(["DEL", FENCE]).unwrap();
    server.command(["RPUSH", FENCE, "garbage"]).unwrap();
    wrong(locks.lock("job").await.unwrap_err());
    assert!(!locks.is_locked("job").await.unwrap(), "nothing was taken");
    server.command(["DEL", FENCE]).unwrap();
    acquired(&locks, "job", LONG).await.release().await.unwrap();

    server.command(["SET", PERMITS, "garbage"]).unwrap();
    let semaphore = locks.semaphore("job", permits(1));
    wrong(semaphore.acquire().await.unwrap_err());
    wrong(semaphore.available().await.unwrap_err());
    wrong(semaphore.release(&token).await.unwrap_err());
    wrong(semaphore.extend(&token, LONG).await.unwrap_err());
    server.command(["DEL", PERMITS]).unwrap();
    semaphore.acquire().await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test]
async fn what_another_program_wrote_is_held_until_it_is_taken_away() {
    let server = server();
    let locks = locks_on(server.url()).await;
    for garbage in [&b"garbage"[..], &[b'a'; 24], &[0xff; 24]] {
        server.command([&b"SET"[..], LOCK.as_bytes(), garbage]).unwrap();
        assert!(locks.try_lock("job").await.unwrap().is_none(), "it has no token, and is not free");
        let info = locks.info("job").await.unwrap().unwrap();
        assert_eq!((info.fence, &*info.holder, info.expires_at), (0, "", None));
        assert_eq!(info.remaining, Duration::MAX);
        assert_eq!(locks.list().await.unwrap(), [info]);
        assert!(locks.force_release("job").await.unwrap());
    }
    drop(acquired(&locks, "job", LONG).await);
}

#[tokio::test]
async fn a_last_fence_that_is_no_number_leaves_the_clock() {
    let server = server();
    let locks = locks_on(server.url()).await;
    for garbage in ["", "x", "nan", "inf", "-inf", "1e300", "9007199254740992", "message"] {
        server.command(["SET", FENCE, garbage]).unwrap();
        let guard = locks.lock("job").lease(LONG).wait(EAGER).await.unwrap().unwrap();
        let clock = 1_700_000_000_000_000..5_000_000_000_000_000;
        assert!(clock.contains(&guard.fence()), "{garbage}: {}", guard.fence());
        assert_eq!(guard.release().await.unwrap(), Released::Released);
    }
}

#[tokio::test]
async fn permits_of_another_program_count_as_long_as_they_say() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let semaphore = locks.semaphore("job", permits(2));
    server.command(["ZADD", PERMITS, "inf", "other", "-inf", "past"]).unwrap();
    assert_eq!(semaphore.available().await.unwrap(), 1);
    let mut permit = semaphore.acquire().await.unwrap().expect("one is left");
    let _ = permit.extend(LONG).await.unwrap();
    assert!(semaphore.try_acquire().await.unwrap().is_none());
    assert_eq!(permit.release().await.unwrap(), Released::Released);
}
