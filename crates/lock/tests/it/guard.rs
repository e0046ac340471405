use std::time::Duration;

use redbrick_core_conn::Token;
use redbrick_lock::{Extended, Released};
use tokio::time::{Instant, timeout};

use crate::{LONG, PATIENCE, SHORT, acquired, free, locks, locks_on, send, server};

#[tokio::test]
async fn any_process_releases_and_extends_by_name_and_token() {
    let locks = locks("by-token").await;
    let token = acquired(&locks, "job", SHORT * 100).await.into_token();
    // As it travels to another process.
    let token: Token = token.expose().parse().unwrap();

    assert_eq!(locks.extend("job", &token, LONG).await.unwrap(), Extended::Extended);
    assert!(locks.ttl("job").await.unwrap().unwrap() > SHORT * 200);
    let strange = Token::random();
    assert_eq!(locks.extend("job", &strange, LONG).await.unwrap(), Extended::Lost);
    assert_eq!(locks.release("job", &strange).await.unwrap(), Released::AlreadyLost);
    assert!(locks.is_locked("job").await.unwrap(), "only the owner releases");

    assert_eq!(locks.release("job", &token).await.unwrap(), Released::Released);
    assert!(!locks.is_locked("job").await.unwrap());
    assert_eq!(locks.release("job", &token).await.unwrap(), Released::Released, "as before");
    assert_eq!(locks.extend("job", &token, LONG).await.unwrap(), Extended::Lost);
}

#[tokio::test]
async fn dropping_it_releases_it() {
    let locks = locks("drop").await;
    drop(acquired(&locks, "job", LONG).await);
    free(&locks, "job").await;
}

#[test]
fn dropped_after_its_runtime_has_ended_it_leaves_the_lock_to_its_lease() {
    let server = server();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let guard = first.block_on(async {
        acquired(&locks_on(server.url()).await, "job", Duration::from_millis(500)).await
    });
    drop(first);
    drop(guard);
    runtime().block_on(async {
        let locks = locks_on(server.url()).await;
        free(&locks, "job").await;
    });
}

#[tokio::test]
async fn without_its_guard_it_lasts_until_its_lease_ends() {
    let locks = locks("token").await;
    let guard = acquired(&locks, "job", LONG).await;
    let same = *guard.token();
    let token = guard.into_token();
    assert_eq!(token, same);
    assert!(locks.is_locked("job").await.unwrap());
    assert_eq!(locks.release("job", &token).await.unwrap(), Released::Released);
}

#[tokio::test]
async fn it_counts_down_on_its_own_clock_and_ends_before_the_server_does() {
    let locks = locks("counts").await;
    let lease = Duration::from_secs(2);
    let guard = acquired(&locks, "job", lease).await;
    let left = guard.remaining();
    assert!(left <= lease - Duration::from_millis(22), "1 % and 2 ms: {left:?}");

    let (lost, ends) = (guard.lost(), Instant::now() + left);
    timeout(PATIENCE, tokio::spawn(send(lost))).await.unwrap().unwrap();

    // A second for a slow machine.
    assert!(Instant::now() >= ends && Instant::now() < ends + Duration::from_secs(1));
    assert!(!guard.is_valid() && guard.remaining().is_zero());
}

#[tokio::test]
async fn extending_it_puts_off_its_end() {
    let locks = locks("extend").await;
    let mut guard = acquired(&locks, "job", Duration::from_secs(2)).await;
    let fence = guard.fence();
    let lost = guard.lost();

    assert_eq!(guard.extend(LONG).await.unwrap(), Extended::Extended);
    assert!(guard.remaining() > LONG / 2 && locks.ttl("job").await.unwrap().unwrap() > LONG / 2);
    assert_eq!(guard.fence(), fence);
    let waited = timeout(Duration::from_millis(2500), lost).await;
    assert!(waited.is_err(), "whoever waits for its end learns of the new one");

    assert_eq!(guard.extend(SHORT).await.unwrap(), Extended::Extended, "it may be shorter too");
    assert!(guard.remaining() < SHORT);
    timeout(PATIENCE, guard.lost()).await.expect("it ends");
}

#[tokio::test]
async fn an_extension_that_finds_it_lost_says_so_at_once() {
    let locks = locks("lost").await;
    let mut guard = acquired(&locks, "job", LONG).await;
    let lost = tokio::spawn(guard.lost());
    assert!(locks.force_release("job").await.unwrap());
    assert!(guard.is_valid(), "it cannot know yet");
    let next = acquired(&locks, "job", LONG).await;

    assert_eq!(guard.extend(LONG).await.unwrap(), Extended::Lost);

    assert!(!guard.is_valid());
    timeout(PATIENCE, lost).await.expect("long before its lease ends").unwrap();
    assert_eq!(guard.release().await.unwrap(), Released::AlreadyLost);
    assert_eq!(next.release().await.unwrap(), Released::Released, "it was never touched");
}

#[tokio::test]
async fn its_end_is_its_release_too() {
    let locks = locks("end").await;
    for release in [true, false] {
        let guard = acquired(&locks, "job", LONG).await;
        let lost = tokio::spawn(guard.lost());
        if release {
            guard.release().await.unwrap();
        } else {
            drop(guard);
        }
        timeout(PATIENCE, lost).await.expect("at once").unwrap();
        free(&locks, "job").await;
    }
}

#[tokio::test]
async fn nothing_secret_shows() {
    let locks = locks("debug").await;
    let guard = acquired(&locks, "a-name", LONG).await;
    let secret = guard.token().expose();
    let info = locks.info("a-name").await.unwrap().unwrap();
    let pending = locks.lock("a-name").holder("somebody");
    for shown in [
        format!("{guard:?}"),
        format!("{locks:?}"),
        format!("{pending:?}"),
        format!("{:?}", locks.mutex("a-name")),
        format!("{:?}", locks.semaphore("a-name", crate::permits(1))),
    ] {
        assert!(!shown.contains(&secret) && !shown.contains("a-name"), "{shown}");
        assert!(!shown.contains("somebody"), "{shown}");
    }
    assert!(!format!("{info:?}").contains(&secret));
}

#[test]
fn handles_go_wherever_tasks_go() {
    fn handle<T: Clone + Send + Sync + 'static>() {}
    fn held<T: Send + Sync + 'static>() {}
    handle::<redbrick_lock::Locks>();
    handle::<redbrick_lock::Mutex>();
    handle::<redbrick_lock::Semaphore>();
    held::<redbrick_lock::LockGuard>();

    held::<redbrick_lock::Error>();
}
