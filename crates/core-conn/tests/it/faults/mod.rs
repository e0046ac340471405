//! The fault table: what may happen to a connection, how soon calls work again, and what is sure of those in flight.
//!
//! Each bound is exceeded by no more than [`SLACK`]. Tests without a module are in `faults`.
//!
//! | fault | bound | proven by |
//! | --- | --- | --- |
//! | killed and restarted | it is found again, what waits counts once | `reconnect::{a_killed_and_restarted…, calls_made_while…, a_call_that_waits…}` |
//! | paused for 5 s, or while something big arrives | the link is kept, every write is done, back at once | `stalls::a_server_that_is_paused…` |
//! | paused, and the timeout is shorter | the timeout; the link stays in step | `reconnect::a_server_that_is_paused…` |
//! | requests, replies or both stall: idle, under 1,000 writes/s, with 64 MiB on their way up or down | 2 s | `stalls::{an_idle_link…, writes_go_on…, an_upload…, a_download…}` |
//! | replies stall with a big one, the server sends much to others and does not say what to whom | 5 s + 1 s for each 4 MiB + 2 s | `stalls::a_download_that_stalls_on_a_busy_server…` |
//! | a stall, without the right to look at the link | 5 s + 2 s | `stalls::without_the_right…` |
//! | a stall, and no room for another command on the link | 2 s; a transaction runs as a whole or not at all | `full::*` |
//! | 64 MiB at 10 MB/s, either way | not cut | `stalls::a_big_value_that…` |
//! | a node of a cluster stops under bulk writes | the others stand still for less than 3 s, and lose nothing | `cluster::a_stopped_node…` |
//! | the link to one node of a cluster stalls | 2 s; the others stand still for less than 1.5 s, and lose nothing | `cluster::a_link_that_stalls…` |
//! | a node of a cluster is lost | the others go on | `outcome::calls_to_a_lost_node…` |
//! | replies are lost | nothing counts twice | `outcomes::increments_whose_replies…`, `reconnect::{an_increment_whose…, a_read_whose…}`, `outcome::a_write_that_ran…` |
//! | cut within a reply | it is asked for again; others get their own | `outcomes::a_reply_that_is_cut…` |
//! | Cluster: master killed | 2 s after the election; nothing counts twice | `cluster::a_master_that_is_killed…`, `topology::a_cluster_is_found…` |
//! | Cluster: manual failover | every call is done or unclear | `cluster::a_master_that_fails_over…` |
//! | Cluster: slots move under load | every call is done | `cluster::slots_that_move…`, `outcome::a_key_that_is_on_the_move…` |
//! | Sentinel: master killed, paused, replaced | 2 s after the election; nothing counts twice | `sentinel::*`, `topology::sentinel_names…` |
//! | Sentinel: one is behind, slow or silent | the others are heard | `topology::{a_sentinel_that_is_behind…, a_silent_sentinel…}` |
//! | CLIENT KILL under load | at once; nothing counts twice | `limits::killed_clients…` |
//! | no room for a client | calls say so, and that they did not run; back when there is room | `limits::a_server_without_room…`, `reconnect::no_room…` |
//! | out of memory | writes fail at once, reads go on | `limits::a_server_out_of_memory…` |
//! | read-only | writes surely did not run; 2 s to another master behind the address, or back at once | `limits::a_master_that_became…` |
//! | the address leads to another server, and the old one falls silent | 2 s; nobody else's connection is closed | `limits::a_link_to_a_server_that_vanished…` |
//! | the server forgets its scripts under load | each call runs once | `script::scripts_that_the_server_forgets…` |
//! | replies are out of step with the commands | the link ends with the next heartbeat | `poison::a_link_whose_replies…` |
//! | loading 200 MB | calls wait, or surely did not run | `limits::{calls_to_a_server_that_is_loading…, a_server_that_restarts…}` |
//! | 1,000 connections come and go | no socket and no task is left | `leaks::a_thousand…`, `lifecycle::*` |
//! | calls are given up at any point | every link stays in step | `outcomes::calls_given_up…`, `reconnect::cancelled_calls…` |
//! | the link with subscriptions is killed, 100 times under traffic | 200 ms and the pause; what is lost lies in a gap | `subscribe::faults::every_message_that…` |
//! | it stalls, either way or both | noticed within two probe intervals | `subscribe::faults::{a_link_that_stalls…, a_link_whose_messages…, a_link_whose_requests…}` |
//! | it answers and delivers nothing | two probe intervals | `subscribe::faults::a_link_that_answers_and…` |
//! | it delivers slowly | kept | `subscribe::faults::a_slow_link_that…` |
//! | the server closes it for its backlog, a right is taken away, the server was away | a gap until it is back | `subscribe::faults::{the_server_that…, a_right_that…, a_server_that…}` |
//! | failover, a lost node, a slot that moves, with subscriptions | a gap until they are back | `subscribe::faults::{a_failover…, any_node…, shard_channels…}` |
//! | a subscriber does not read | it learns how many it lost, the others lose none | `subscribe::load::*` |
//! | the link of a feed is lost, stalls, its command link is lost | not current within its bound, then a flush | `tracking::faults::*` |
//! | writes, kills, restarts, flushes, expiry, eviction, moves beside a feed | a copy is never older than the bound | `tracking::mirror::*` |
//! | a wait is given up at any moment | no item is lost | `blocking::{a_call_that_is_given…, nor_without…}` |
//! | a wait while its server goes away, falls silent, or its slot moves | unclear, or it goes on | `blocking::{a_server_that…, a_link_that…, a_list_whose…}` |
//! | any of it, in any order | every call is accounted for | `soak::*` |

mod cluster;
mod full;
mod leaks;
mod limits;
mod load;
mod outcomes;
mod sentinel;
mod stalls;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use redbrick_testkit::Server;
use tokio::{net::TcpListener, time::Instant};

use crate::alone::tell;
use load::Load;
pub(crate) use load::Tally;

/// From the moment at which a link is stuck to the first answer over another one.
const REPLACED: Duration = Duration::from_secs(2);
/// By how much a bound may be exceeded on a machine that runs many tests at once.
pub(crate) const SLACK: Duration = Duration::from_secs(2);

/// The counter at `key` as the server has it.
fn count(server: &Server, key: &str) -> i64 {
    let stored = server.command(["GET", key]).expect("the server");
    if stored.is_nil() { 0 } else { stored.as_int().expect("a counter") }
}

/// An address behind which servers are exchanged: a port that carries each new connection to the server of the moment.
pub(crate) async fn forward(target: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let target = ("127.0.0.1", target.load(Ordering::Relaxed));
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    port
}

/// Tells how long something took since `started`, for those who run the tests with `--nocapture`.
pub(crate) fn measured(what: &str, started: Instant) -> Duration {
    let took = started.elapsed();
    tell(&format!("{what}: {took:?}"));
    took
}
