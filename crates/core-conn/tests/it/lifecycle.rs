//! Handles, runtimes, closing: nothing leaks and nothing hangs.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use redbrick_core_conn::{
    BoxError, Call, Config, Conn, CredentialProvider, Credentials, ErrorKind, Registry,
    RotatingCredentials, State, StateChanges, async_trait,
};
use redbrick_testkit::{Fault, Server};
use static_assertions::assert_impl_all;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    time::Instant,
};

use crate::{PATIENCE, client_list, eventually, reach, server};

assert_impl_all!(Conn: Clone, Send, Sync, Unpin);
assert_impl_all!(Config: Clone, Send, Sync);
assert_impl_all!(Registry: Send, Sync);
assert_impl_all!(RotatingCredentials: Clone, Send, Sync);
assert_impl_all!(StateChanges: Send, Sync);
assert_impl_all!(redbrick_core_conn::Error: Clone, std::error::Error, Send, Sync);
/// Holds when every future a user awaits can move between threads.
fn futures_are_send(conn: &'static Conn) {
    fn send<F: IntoFuture<IntoFuture: Send>>(_: F) {}
    send(Conn::connect("redis://localhost"));
    send(Conn::from_env());
    send(conn.get::<String>("k"));
    send(conn.set("k", &1));
    send(conn.set("k", &1).if_absent());
    send(conn.delete("k"));
    send(conn.exists("k"));
    send(conn.expire("k", Duration::from_secs(1)));
    send(conn.ttl("k"));
    send(conn.increment("k", 1));
    send(conn.decrement("k", 1));
    send(conn.ping());
    send(conn.ready());
    send(conn.health());
    send(conn.server_info());
    send(conn.server_time());
    send(conn.capabilities());
    send(conn.close(Duration::ZERO));
}

#[test]
fn handles_and_futures_move_between_threads() {
    // Compiling it is the test.
    let _: fn(&'static Conn) = futures_are_send;
}

#[tokio::test]
async fn the_last_handle_closes_the_sockets_and_ends_the_tasks() {
    let server = server();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (clients_before, tasks_before) = (client_list(&server).len(), tasks());
    for _ in 0..20 {
        let config = Config::builder().url(server.url()).command_links(3.try_into().unwrap());
        let conn = Conn::connect(config).await.unwrap();
        let second = conn.clone();
        drop(conn);
        second.ping().await.unwrap();
        let _checks = second.check_health(Duration::from_secs(3600), drop);
    }
    let watched = Arc::clone(&server);
    eventually("all sockets closed", move || client_list(&watched).len() == clients_before).await;
    assert_eq!(tasks(), tasks_before, "no task is left");
}

#[tokio::test]
async fn a_failed_or_cancelled_connect_leaves_nothing() {
    let server = Arc::new(Server::builder().password("right").start().unwrap());
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (clients_before, tasks_before) = (client_list(&server).len(), tasks());
    for polls in 0..30 {
        let wrong = Config::builder().url(server.url()).password("wrong").build().unwrap();
        Conn::connect(wrong).await.unwrap_err();
        let right = Config::builder().url(server.url()).password("right").build().unwrap();
        let mut connecting = Box::pin(Conn::connect(right));
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut connecting => break,
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let watched = Arc::clone(&server);
    eventually("all sockets closed", move || client_list(&watched).len() == clients_before).await;
    assert_eq!(tasks(), tasks_before, "no task is left");
}

#[tokio::test]
async fn closing_waits_for_calls_and_refuses_new_ones() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();
    let paused = server.pause().unwrap();
    let call = tokio::spawn({
        let conn = conn.clone();
        async move { conn.increment("n", 1).await }
    });
    let closing = tokio::spawn({
        let conn = conn.clone();
        async move { conn.close(PATIENCE).await }
    });
    // On this one thread the two tasks run up to their first wait, in this order.
    tokio::task::yield_now().await;
    // Refused from the first moment on, while the call before it is still in flight.
    assert_eq!(conn.exists("k").await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(!call.is_finished() && !closing.is_finished());
    paused.resume();

    assert_eq!(call.await.unwrap().unwrap(), 1, "the call in flight ended well");
    let report = closing.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    reach(&mut changes, State::End).await;
    assert_eq!(conn.state(), State::End);
    assert_eq!(conn.ping().await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(conn.close(Duration::ZERO).await.is_clean(), "closing twice is fine");
    assert!(changes.next().await.is_none(), "nothing comes after the end");
    let watched = Arc::clone(&server);
    eventually("the socket closed", move || client_list(&watched).is_empty()).await;
}

#[tokio::test]
async fn closing_gives_up_at_its_deadline_and_counts_what_it_left() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let _paused = server.pause().unwrap();
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.increment("n", 1).await })
        })
        .collect();
    // On this one thread the tasks run up to their first wait.
    tokio::task::yield_now().await;
    let report = conn.close(Duration::from_millis(200)).await;
    assert!(report.took >= Duration::from_millis(200) && report.took < Duration::from_secs(4));
    let mut unclear = 0;
    for call in calls {
        let err = call.await.unwrap().unwrap_err();
        unclear += usize::from(err.is_outcome_unknown());
    }
    assert_eq!((report.abandoned, unclear), (3, 3), "what was abandoned has an unknown outcome");
}

#[test]
fn a_handle_that_outlives_its_runtime_says_closed() {
    let server = server();
    let runtime = |threads: usize| -> Runtime {
        match threads {
            0 => Builder::new_current_thread().enable_all().build().unwrap(),
            n => Builder::new_multi_thread().worker_threads(n).enable_all().build().unwrap(),
        }
    };
    for threads in [0, 2] {
        let first = runtime(threads);
        let conn = first.block_on(Conn::connect(server.url())).unwrap();
        let lazy = Conn::connect_lazy(server.url()).unwrap();
        first.block_on(lazy.ping()).unwrap();
        let mut changes = conn.state_changes();
        drop(first);

        let second = runtime(threads);
        // The link's task can end a moment before the task that keeps it.
        second.block_on(reach(&mut changes, State::End));
        for conn in [conn, lazy] {
            let err = second.block_on(async {
                tokio::time::timeout(Duration::from_secs(2), conn.increment("n", 1)).await
            });
            let err = err.expect("at once").unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Closed, "{err:?}");
            assert_eq!(conn.state(), State::End);
            assert!(second.block_on(conn.close(Duration::from_secs(1))).is_clean());
        }
    }
}

#[test]
fn a_handle_can_be_dropped_outside_of_any_runtime() {
    let server = server();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let conn = runtime.block_on(Conn::connect(server.url())).unwrap();
    let other = conn.clone();
    std::thread::spawn(move || drop(conn)).join().unwrap();
    drop(runtime);
    drop(other);
}

/// Hands out credentials after a while.
#[derive(Debug)]
struct Slow(Duration);

#[async_trait]
impl CredentialProvider for Slow {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        let mut ticks = tokio::time::interval(self.0);
        ticks.tick().await;
        ticks.tick().await;
        Ok(Credentials::password("pw"))
    }
}

#[tokio::test]
async fn closing_a_lazy_connection_that_is_just_starting_leaves_nothing_behind() {
    let server = Arc::new(Server::builder().password("pw").start().unwrap());
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let provider = Slow(Duration::from_millis(300));
    let conn =
        Conn::connect_lazy(Config::builder().url(server.url()).credential_provider(provider));
    let conn = conn.unwrap();
    let call = tokio::spawn({
        let conn = conn.clone();
        async move { conn.ping().await }
    });
    tokio::task::yield_now().await;
    let report = conn.close(Duration::from_millis(50)).await;
    assert_eq!(report.abandoned, 1);
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(conn.state(), State::End);
    // The handle is still here, and so would be what it left running.
    assert!(client_list(&server).is_empty());
    tokio::task::yield_now().await;
    assert_eq!(tasks(), before);
    drop(conn);
}

#[tokio::test]
async fn connecting_takes_the_connect_timeout_once_however_slow_each_step_is() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timeout = Duration::from_secs(1);
    let config = Config::builder()
        .host("127.0.0.1")
        .port(listener.local_addr().unwrap().port())
        .connect_timeout(timeout)
        .credential_provider(Slow(timeout.mul_f64(0.8)));
    let started = Instant::now();
    assert_eq!(Conn::connect(config).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(started.elapsed() < timeout.mul_f64(1.5), "{:?}", started.elapsed());
}

#[test]
fn a_transaction_from_another_runtime_does_not_end_the_connection_with_it() {
    let server = server();
    let build = || Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (home, guest) = (build(), build());
    let conn = home.block_on(Conn::connect(server.url())).unwrap();
    let transact = async |conn: &Conn| {
        let mut transaction = conn.transaction();
        let n = transaction.add(conn.increment("n", 1));
        transaction.send().await?.take(n)
    };
    assert_eq!(guest.block_on(transact(&conn)).unwrap(), 1);
    drop(guest);
    assert_eq!(conn.state(), State::Connected);
    assert_eq!(home.block_on(transact(&conn)).unwrap(), 2);
}

#[test]
fn a_call_from_another_runtime_runs_out_of_time_while_that_of_the_connection_stands_still() {
    let server = server();
    let build = || Builder::new_current_thread().enable_all().build().unwrap();
    let (home, guest) = (build(), build());
    let conn = home.block_on(Conn::connect(server.url())).unwrap();
    let timeout = Duration::from_millis(100);
    let hasty = conn.with_command_timeout(timeout);
    let started = Instant::now();
    let err = guest.block_on(hasty.get::<i32>("k")).unwrap_err();
    assert!(err.is_timeout(), "{err:?}");
    let mut pipeline = hasty.pipeline();
    let ticket = pipeline.add(hasty.get::<i32>("k"));
    let err = guest.block_on(pipeline.send()).take(ticket).unwrap_err();
    assert!(err.is_timeout(), "{err:?}");
    assert!(started.elapsed() < 2 * timeout + Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(home.block_on(conn.get::<i32>("k")).unwrap(), None, "and goes on with it");
}

#[test]
fn a_call_that_moves_to_another_runtime_runs_out_of_time_there() {
    let server = server();
    let build = || Builder::new_current_thread().enable_all().build().unwrap();
    let timeout = Duration::from_millis(300);
    for from_home in [true, false] {
        let (home, guest) = (build(), build());
        let conn = home.block_on(Conn::connect(server.url())).unwrap();
        let mut call = pin!(conn.get::<i32>("k").timeout(timeout));
        let first = |runtime: &Runtime, call: &mut Pin<&mut Call<'_, Option<i32>>>| {
            runtime.block_on(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())))
        };
        let started = Instant::now();
        if from_home {
            assert!(first(&home, &mut call));
            assert!(guest.block_on(call).unwrap_err().is_timeout());
            assert!(
                started.elapsed() < timeout + Duration::from_secs(1),
                "{:?}",
                started.elapsed()
            );
        } else {
            assert!(first(&guest, &mut call));
            drop(guest);
            assert_eq!(home.block_on(call).unwrap(), None);
        }
    }
}

#[tokio::test]
async fn closing_lets_a_call_go_on_whose_link_breaks_meanwhile() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    conn.set("k", &7).await.unwrap();
    proxy.set(Fault::Stall);
    let get = tokio::spawn({
        let conn = conn.clone();
        async move { conn.get::<i32>("k").await }
    });
    tokio::task::yield_now().await;
    let closing = tokio::spawn({
        let conn = conn.clone();
        async move { conn.close(PATIENCE).await }
    });
    let hasty = conn.with_command_timeout(Duration::from_millis(1));
    while hasty.ping().await.map_err(|err| err.kind()) != Err(ErrorKind::Closed) {}
    proxy.clear();
    proxy.reset();
    assert_eq!(get.await.unwrap().unwrap(), Some(7), "sent again over another link");
    assert!(closing.await.unwrap().is_clean());
}

#[tokio::test]
async fn room_for_one_call_is_enough_for_everything() {
    let server = server();
    for most in 1..4 {
        let config = Config::builder().url(server.url()).client_name("narrow");
        let conn = Conn::connect(config.max_waiting(most.try_into().unwrap())).await.unwrap();
        conn.set("k", &1).await.unwrap();
        let mut transaction = conn.transaction();
        let get = transaction.add(conn.get::<i32>("k"));
        assert_eq!(transaction.send().await.unwrap().take(get).unwrap(), Some(1));
    }
}
