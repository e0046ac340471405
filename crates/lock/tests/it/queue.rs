//! The queue under hostile conditions: what is gone, refused, late or written by others.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{io::Write as _, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{LockGuard, Locks, Released, Wait};
use redbrick_testkit::{Fault, Server};
use tokio::{
    runtime::Runtime,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{LONG, PATIENCE, acquired, rest, server, until};

const LOCK: &str = "lock:default:{90}:job";
const QUEUE: &str = "lock:default:{90}:job:queue";

async fn on(server: &Server) -> Locks {
    on_url(server.url()).await
}

async fn on_url(url: String) -> Locks {
    Locks::new(Conn::connect(url).await.unwrap())
}

/// Has somebody wait, and returns when it stands in line.
async fn waiter(locks: &Locks, lease: Duration) -> JoinHandle<LockGuard> {
    waiter_of(locks, locks, lease).await
}

/// The same in another process.
async fn waiter_of(locks: &Locks, far: &Locks, lease: Duration) -> JoinHandle<LockGuard> {
    let before = waiting(locks).await;
    let lock = far.lock("job").lease(lease).wait(Wait::Forever);
    let waiter = tokio::spawn(async move { lock.await.unwrap().expect("it waits for ever") });
    until("it stands in line", async || waiting(locks).await > before).await;
    waiter
}

async fn waiting(locks: &Locks) -> u64 {
    locks.info("job").await.unwrap().map_or(0, |info| info.waiting)
}

fn own_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn scripts_run(server: &Server) -> u64 {
    server.command_counts().unwrap().of("evalsha")
}

/// Who was told that it is first looks when the lease ends that it was told of, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_first_asks_seldom_where_the_holder_renews_its_lease() {
    let server = server();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    let lease = Duration::from_millis(300);
    let (inside, is_inside) = tokio::sync::oneshot::channel();
    let waits = locks.clone();
    // It renews its lock, as everybody does with `with`.
    let works = tokio::spawn(async move {
        let lock = waits.lock("job").lease(lease).wait(Wait::Forever);
        let work = async |_| {
            inside.send(()).unwrap();
            rest(Duration::from_secs(3)).await;
        };
        lock.with(work).await.unwrap().unwrap();
    });
    until("it stands in line", async || waiting(&locks).await == 1).await;
    let next = waiter(&locks, LONG).await;
    guard.release().await.unwrap();
    is_inside.await.unwrap();
    rest(Duration::from_millis(600)).await;
    let before = scripts_run(&server);
    rest(Duration::from_secs(1)).await;
    let asked = scripts_run(&server) - before;
    works.await.unwrap();
    next.await.unwrap().release().await.unwrap();
    assert!(asked < 50, "{asked} scripts in one second");
}

/// A process with many that wait is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_are_gone_hold_nobody_up() {
    let server = server();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    let url = server.url();
    let runtime = own_runtime();
    let gone = runtime.spawn(async move { on_url(url).await });
    let gone = gone.await.unwrap();
    for _ in 0..450 {
        let lock = gone.lock("job").lease(LONG).wait(Wait::Forever);
        runtime.spawn(async move { lock.await });
    }
    until("they stand in line", async || waiting(&locks).await == 450).await;
    let lease = Duration::from_secs(4);
    let next = waiter(&locks, lease).await;
    runtime.shutdown_background();
    drop(gone);
    rest(Duration::from_millis(500)).await;
    guard.release().await.unwrap();
    let since = Instant::now();
    let guard = timeout(PATIENCE, next).await.unwrap().unwrap();
    let took = since.elapsed();
    guard.release().await.unwrap();
    assert!(took < lease, "free for {took:?}, and its own lease is {lease:?}");
}

/// The master takes no writes for lack of replicas; publishing goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_a_grant_that_the_server_refuses_to_write() {
    let server = server();
    let (locks, other) = (on(&server).await, on(&server).await);
    let mut guard = acquired(&locks, "job", LONG).await;
    let next = waiter(&locks, LONG).await;
    let _ = guard.extend(Duration::from_millis(100)).await.unwrap();
    let _forgotten = guard.into_token();
    server.command(["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    rest(Duration::from_millis(300)).await;
    let refused = other.try_lock("job").await;
    assert!(refused.is_err(), "{refused:?}");
    let next = timeout(Duration::from_secs(2), next).await;
    server.command(["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    let is_locked = locks.is_locked("job").await.unwrap();
    if let Ok(guard) = next {
        let guard = guard.unwrap();
        let (valid, left) = (guard.is_valid(), guard.remaining());
        let released = guard.release().await.unwrap();
        let after = other.try_lock("job").await.unwrap();
        let info = other.info("job").await.unwrap();
        panic!(
            "a guard, valid: {valid} for {left:?}, the server has it: {is_locked}; its release: {released:?}; another one then gets {after:?}, and the server says {info:?}"
        );
    }
}

/// Its last word did not get through, and its process listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_could_not_say_that_it_waits_no_more_hands_it_on() {
    let server = server();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    let gone = waiter(&locks, LONG).await;
    let last = waiter(&locks, LONG).await;
    server.command(["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    gone.abort();
    rest(Duration::from_millis(500)).await;
    server.command(["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    guard.release().await.unwrap();
    let last = timeout(PATIENCE, last).await;
    let info = locks.info("job").await.unwrap();
    assert!(last.is_ok(), "nobody has it, for as long as a lease: {info:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_publish_to_shards_throws_nobody_out() {
    if !server().version().at_least(7, 0) {
        // There is no such right.
        return;
    }
    let server =
        Server::builder().user("admin", "secret", "~* &* +@all -spublish").start().unwrap();
    let url = server.url();
    let locks = on_url(url).await;
    let admin = on_url(server.url().replace("redis://", "redis://admin:secret@")).await;
    let guard = acquired(&locks, "job", LONG).await;
    let next = waiter(&locks, LONG).await;
    assert!(admin.force_release("job").await.unwrap());
    rest(Duration::from_millis(200)).await;
    drop(guard);
    let waits = server.command(["ZCARD", QUEUE]).unwrap().as_int();
    assert!(waits == Some(1) || next.is_finished(), "it was thrown out of the queue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_program_wrote_into_the_queue_is_passed_over() {
    let server = server();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    server.command(["ZADD", QUEUE, "1", "garbage"]).unwrap();
    let next = waiter(&locks, LONG).await;
    let released = guard.release().await;
    let acquire = locks.try_lock("job").await;
    let is_locked = locks.is_locked("job").await.unwrap();
    let next = timeout(PATIENCE, next).await;
    assert!(released.is_ok() && next.is_ok(), "{released:?} {acquire:?} {is_locked} {next:?}");
}

/// The server's clock is set forward between a question and its grant: as the script then says it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_a_lease_remains_where_the_clock_is_set_forward() {
    let server = server();
    let locks = on(&server).await;
    let _guard = acquired(&locks, "job", LONG).await;
    let lease = Duration::from_secs(10);
    let next = waiter(&locks, lease).await;
    // What hand_on does, at a time an hour ahead.
    let lua = r"
        local waiter = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
        local time = redis.call('TIME')
        local now = time[1] * 1000000 + time[2] + 3600 * 1000000
        redis.call('ZREM', KEYS[1], waiter)
        redis.call('SET', KEYS[2], struct.pack('>I8', now) .. string.sub(waiter, 1, 16), 'PX', 10000)
        local mailbox = 'lock:default:{90}:' .. string.sub(waiter, 17, 32)
        local message = 'g' .. string.sub(waiter, 1, 16) .. struct.pack('>I8I8', now, now)
        local told = redis.pcall('SPUBLISH', mailbox, message)
        return type(told) == 'number' and told or redis.call('PUBLISH', mailbox, message)";
    server.command(["EVAL", lua, "2", QUEUE, LOCK]).unwrap();
    let next = next.await.unwrap();
    let left = next.remaining();
    let _ = next.into_token();
    assert!(left <= lease, "{left:?} of {lease:?}");
}

#[tokio::test]
async fn a_wait_of_no_length_asks_once() {
    let server = server();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    let brief = Wait::For(Duration::from_millis(50));
    assert!(locks.lock("job").wait(brief).await.unwrap().is_none());
    let cost = server.cost(async {
        assert!(locks.lock("job").wait(Wait::For(Duration::ZERO)).await.unwrap().is_none());
    });
    let cost = cost.await.unwrap();
    guard.release().await.unwrap();
    assert!(cost.contains("evalsha 1"), "{cost}");
}

/// The link on which it listens breaks and comes back while its question is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_comes_back_while_it_asks_is_noticed() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    let far = on_url(proxy.url()).await;
    let down = Duration::from_millis(1500);
    // Replies to commands come late; the link on which it listens is opened later.
    proxy.set_for_open(Fault::Latency { up: Duration::ZERO, down });
    let next = waiter_of(&locks, &far, LONG).await;
    server.command(["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    guard.release().await.unwrap();
    let next = timeout(PATIENCE, next).await;
    let free = !locks.is_locked("job").await.unwrap();
    assert!(next.is_ok(), "it waits, and the lock is free: {free}");
}

/// Nobody stands still: what is said comes late, and the lock was taken away meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_comes_after_it_was_taken_away_is_no_lock() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    let far = on_url(proxy.url()).await;
    let brief = Wait::For(Duration::from_millis(50));
    assert!(far.lock("job").wait(brief).await.unwrap().is_none());
    // The link on which it listens.
    let down = Duration::from_millis(1000);
    proxy.set_for_newest(Fault::Latency { up: Duration::ZERO, down });
    let lease = Duration::from_millis(700);
    let next = waiter_of(&locks, &far, lease).await;
    guard.release().await.unwrap();
    assert!(locks.force_release("job").await.unwrap(), "it was the far one's");
    let other = acquired(&locks, "job", LONG).await;
    let next = timeout(Duration::from_secs(4), next).await;
    if let Ok(next) = next {
        let next = next.unwrap();
        panic!(
            "{:?} of fence {} left, and {:?} of fence {} elsewhere",
            next.remaining(),
            next.fence(),
            other.remaining(),
            other.fence()
        );
    }
}

/// Before Redis 7: who listens to everything is not who waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_to_patterns_is_nobody_who_waits() {
    let server = server();
    let mut nosy = std::net::TcpStream::connect(server.address()).unwrap();
    nosy.write_all(b"PSUBSCRIBE *\r\n").unwrap();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    let runtime = own_runtime();
    let url = server.url();
    let gone = runtime.spawn(async move { on_url(url).await }).await.unwrap();
    let lock = gone.lock("job").lease(LONG).wait(Wait::Forever);
    runtime.spawn(async move { lock.await });
    until("it stands in line", async || waiting(&locks).await == 1).await;
    let next = waiter(&locks, LONG).await;
    runtime.shutdown_background();
    drop(gone);
    rest(Duration::from_millis(500)).await;
    guard.release().await.unwrap();
    let next = timeout(PATIENCE, next).await;
    assert!(next.is_ok(), "{:?}", locks.info("job").await.unwrap());
}

/// The line is read on a runtime of one thread that nobody drives any more, as between two calls of `block_on`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_heard_of_where_the_runtime_of_the_first_who_waited_stands_idle() {
    let server = server();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    let waits = locks.clone();
    let idle = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let brief = Wait::For(Duration::from_millis(100));
        let none = runtime.block_on(async { waits.lock("job").wait(brief).await });
        assert!(none.unwrap().is_none());
        runtime
    });
    let idle = idle.await.unwrap();
    let next = waiter(&locks, LONG).await;
    guard.release().await.unwrap();
    let next = timeout(PATIENCE, next).await;
    let info = locks.info("job").await.unwrap();
    idle.shutdown_background();
    assert!(next.is_ok(), "it has it and does not know: {info:?}");
}

/// The answer to a release is lost, and the next one is quick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_whose_answer_was_lost_was_one_though_others_released_it_since() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let (locks, far) = (on(&server).await, on_url(proxy.url()).await);
    // The scripts are known.
    acquired(&far, "job", LONG).await.release().await.unwrap();
    let guard = acquired(&far, "job", LONG).await;
    let next = waiter(&locks, LONG).await;
    let quick = tokio::spawn(async move { next.await.unwrap().release().await.unwrap() });
    proxy.set_for_open(Fault::CutAfterReplyBytes(0));
    proxy.refuse();
    let (released, ()) = tokio::join!(guard.release(), async {
        rest(Duration::from_millis(300)).await;
        proxy.accept().unwrap();
    });
    quick.await.unwrap();
    assert!(matches!(released, Ok(Released::Released)), "{released:?}");
}

/// The server is down when it first wants to listen, and later it may not listen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_without_a_server_at_first_and_may_not_listen_asks_from_time_to_time() {
    let server = Server::builder().user("app", "secret", "~* +@all").start().unwrap();
    let (proxy, other) = (server.proxy().unwrap(), on(&server).await);
    let guard = acquired(&other, "job", LONG).await;
    proxy.refuse();
    let url = proxy.url().replace("redis://", "redis://app:secret@");
    let config = Config::builder().url(url).optional(true).command_timeout(Duration::from_secs(1));
    let locks = Locks::new(Conn::connect(config).await.unwrap());
    let next = tokio::spawn(async move {
        locks.lock("job").lease(LONG).wait(Wait::Forever).await.unwrap().unwrap()
    });
    rest(Duration::from_secs(2)).await;
    proxy.accept().unwrap();
    let asked = scripts_run(&server);
    until("it asks from time to time", async || scripts_run(&server) > asked + 3).await;
    guard.release().await.unwrap();
    timeout(PATIENCE, next).await.unwrap().unwrap().release().await.unwrap();
}

/// There are more than one script passes over, so that who comes cannot know who is first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_passes_who_waits_behind_more_than_are_passed_over_at_a_time() {
    let server = server();
    let locks = on(&server).await;
    let _guard = acquired(&locks, "job", LONG).await;
    let next = waiter(&locks, LONG).await;
    many_are_gone(&server, 12_000);
    server.command(["DEL", LOCK]).unwrap();
    until("it is handed on", async || {
        assert!(locks.try_lock("job").await.unwrap().is_none(), "it came before who waits");
        next.is_finished()
    })
    .await;
    next.await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_behind_more_than_are_passed_over_at_a_time_asks_again_soon() {
    let server = server();
    let locks = on(&server).await;
    many_are_gone(&server, 22_000);
    let lock = locks.lock("job").lease(LONG).wait(Wait::For(PATIENCE));
    lock.await.unwrap().expect("nobody has it").release().await.unwrap();
}

#[tokio::test]
async fn a_mailbox_that_nobody_reads_is_tried_once_for_all_who_are_gone() {
    let server = server();
    let locks = on(&server).await;
    many_are_gone(&server, 100);
    let mut had = None;
    let cost = server.cost(async { had = locks.try_lock("job").await.unwrap() }).await.unwrap();
    // Before Redis 7 it is counted who listens.
    let once = cost.split(", ").any(|one| ["spublish 1", "pubsub 1"].contains(&one));
    assert!(once, "{cost}");
    had.expect("nobody has it").release().await.unwrap();
}

/// Has so many stand first in line whose process is gone.
fn many_are_gone(server: &Server, count: usize) {
    let script = "
        local terms = 'gone-gone-gone-g' .. struct.pack('>I8I4', 60000, 1)
        for n = 1, tonumber(ARGV[1]) do
          redis.call('ZADD', KEYS[1], n, string.format('%016d', n) .. terms)
        end";
    server.command(["EVAL", script, "1", QUEUE, &count.to_string()]).unwrap();
}
