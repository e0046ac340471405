//! A thousand connections come and go, each in one of the ways in which they do, and nothing of them stays.

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::Fault;
use tokio::{runtime::Handle, time::timeout};

use crate::{client_list, eventually, server};

#[tokio::test]
async fn a_thousand_connections_leave_no_socket_and_no_task() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (clients_before, tasks_before) = (client_list(&server).len(), tasks());
    for n in 0..1_000 {
        let config =
            Config::builder().url(proxy.url()).command_links((1 + n % 2).try_into().unwrap());
        let conn = Conn::connect(config).await.unwrap();
        match n % 8 {
            0 | 1 => {}
            2 => conn.set("k", &n).await.unwrap(),
            3 => assert!(conn.close(Duration::from_secs(1)).await.is_clean()),
            // A call is in flight, or given up.
            4 => drop(timeout(Duration::ZERO, conn.increment("n", 1)).await),
            5 => {
                let given_up = conn.clone();
                let call = tokio::spawn(async move { given_up.get::<u32>("k").await });
                tokio::task::yield_now().await;
                call.abort();
            }
            // The link is lost, or being made again.
            6 => proxy.reset(),
            _ => {
                proxy.reset();
                conn.set("k", &n).await.unwrap();
            }
        }
    }
    // One more, over a link that is stuck.
    let conn = Conn::connect(proxy.url()).await.unwrap();
    proxy.set_for_open(Fault::Stall);
    drop(conn);
    proxy.clear();
    let watched = Arc::clone(&server);
    eventually("all sockets closed", move || client_list(&watched).len() == clients_before).await;
    assert_eq!(tasks(), tasks_before, "no task is left");
}
