//! Credentials change while the connection is in use.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::{
    BoxError, Config, Conn, CredentialProvider, Credentials, ErrorKind, Rotation, State,
};
use redbrick_testkit::Server;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{PATIENCE, client_list, eventually, reach};

const RULES: &str = "~* &* +@all";

fn acl(server: &Server, rules: &[&str]) {
    let args: Vec<&str> = ["ACL", "SETUSER", "app"].iter().chain(rules).copied().collect();
    server.command(args).expect("the right to change users");
}

/// The ids of the connections of user `app`, as the server sees them.
fn ids(server: &Server) -> Vec<u64> {
    let of_app = client_list(server).into_iter().filter(|line| line.contains(" user=app "));
    let id =
        |line: String| line.split(' ').find_map(|field| field.strip_prefix("id="))?.parse().ok();
    of_app.filter_map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_credentials_rotate_under_load() {
    let server = Arc::new(Server::builder().user("app", "pw0", RULES).start().unwrap());
    let rotation = Rotation::new(Credentials::user("app", "pw0"));
    let config = Config::builder()
        .url(server.url())
        .command_links(2.try_into().unwrap())
        .credential_provider(rotation.clone());
    let conn = Conn::connect(config).await.unwrap();

    // 1,000 calls a second: ten every 10 ms, increments among them, which are never sent twice.
    let load = tokio::spawn({
        let conn = conn.clone();
        async move {
            let mut ticks = interval(Duration::from_millis(10));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut calls = Vec::new();
            for _ in 0..300 {
                ticks.tick().await;
                for n in 0..10 {
                    let conn = conn.clone();
                    calls.push(tokio::spawn(async move {
                        match n % 2 {
                            0 => conn.increment("n", 1).await.map(drop),
                            _ => conn.set("k", &n).await,
                        }
                    }));
                }
            }
            calls
        }
    });
    let started = Instant::now();
    for round in 1..=5 {
        let before = ids(&server);
        acl(&server, &[&format!(">pw{round}")]);
        rotation.rotate(Credentials::user("app", format!("pw{round}")));
        // Moved over when only two links are left and both are new.
        let watched = Arc::clone(&server);
        eventually("the move", move || {
            let now = ids(&watched);
            now.len() == 2 && now.iter().all(|id| !before.contains(id))
        })
        .await;
        acl(&server, &[&format!("<pw{}", round - 1)]);
    }
    assert!(started.elapsed() < Duration::from_secs(3) || load.is_finished(), "under load");

    let calls = load.await.unwrap();
    assert_eq!(calls.len(), 3000);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(conn.increment("n", 0).await.unwrap(), 1500, "each counted once");
}

#[tokio::test]
async fn another_user_can_take_over() {
    let server =
        Server::builder().user("blue", "pw", RULES).user("green", "pw", RULES).start().unwrap();
    let rotation = Rotation::new(Credentials::user("blue", "pw"));
    let config = Config::builder().url(server.url()).credential_provider(rotation.clone());
    let conn = Conn::connect(config).await.unwrap();
    let server = Arc::new(server);
    let connected_as = |user: &'static str| {
        let server = Arc::clone(&server);
        eventually(user, move || {
            client_list(&server).iter().any(|line| line.contains(&format!(" user={user} ")))
        })
    };
    connected_as("blue").await;
    rotation.rotate(Credentials::user("green", "pw"));
    connected_as("green").await;
    server.command(["ACL", "DELUSER", "blue"]).unwrap();
    conn.ping().await.unwrap();
}

#[tokio::test]
async fn new_credentials_that_do_not_work_leave_the_old_link_in_use() {
    let server = Server::builder().user("app", "right", RULES).start().unwrap();
    let rotation = Rotation::new(Credentials::user("app", "right"));
    let config = Config::builder().url(server.url()).credential_provider(rotation.clone());
    let conn = Conn::connect(config).await.unwrap();
    let refused = || {
        let stats = server.command(["INFO", "stats"]).unwrap();
        let line =
            stats.as_str().unwrap().lines().find_map(|line| {
                line.strip_prefix("total_connections_received:").map(str::to_owned)
            });
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = refused();
    rotation.rotate(Credentials::user("app", "wrong"));
    while refused() < before + 2 {
        conn.ping().await.unwrap();
    }
    assert_eq!(conn.state(), State::Connected);
    acl(&server, &[">wrong"]);
    conn.ping().await.unwrap();
}

#[tokio::test]
async fn a_rotation_after_the_password_has_changed_leads_out_of_the_error_state() {
    let server = Server::builder().user("app", "old", RULES).start().unwrap();
    let rotation = Rotation::new(Credentials::user("app", "old"));
    let config = Config::builder()
        .url(server.url())
        .credential_provider(rotation.clone())
        .reconnect_delay(Duration::from_millis(10), Duration::from_millis(50));
    let conn = Conn::connect(config).await.unwrap();
    let mut changes = conn.state_changes();
    acl(&server, &["<old", ">new"]);
    server.command(["CLIENT", "KILL", "USER", "app"]).unwrap();
    reach(&mut changes, State::Error).await;
    assert_eq!(conn.ping().await.unwrap_err().kind(), ErrorKind::Auth);

    rotation.rotate(Credentials::user("app", "new"));
    reach(&mut changes, State::Connected).await;
    conn.ping().await.unwrap();
}

/// Hands out `pw<n>` for the n-th request, each good for a short while.
#[derive(Debug)]
struct ShortLived(Arc<AtomicU32>);

#[async_trait::async_trait]
impl CredentialProvider for ShortLived {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        let n = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Credentials::user("app", format!("pw{}", n.min(2)))
            .valid_for(Duration::from_millis(200)))
    }
}

#[tokio::test]
async fn credentials_are_renewed_before_they_expire() {
    let server = Arc::new(Server::builder().user("app", "pw0", RULES).start().unwrap());
    acl(&server, &[">pw1", ">pw2"]);
    let asked = Arc::new(AtomicU32::new(0));
    let provider = ShortLived(Arc::clone(&asked));
    let config = Config::builder().url(server.url()).credential_provider(provider);
    let conn = Conn::connect(config).await.unwrap();
    let first = ids(&server);
    let watched = Arc::clone(&server);
    eventually("two renewals and more", move || {
        asked.load(Ordering::SeqCst) >= 4 && ids(&watched) != first
    })
    .await;
    conn.ping().await.unwrap();
}

/// Knows the newest password, but does not announce a new one.
#[derive(Debug)]
struct Vault(Arc<Mutex<&'static str>>);

#[async_trait::async_trait]
impl CredentialProvider for Vault {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        Ok(Credentials::user("app", *self.0.lock().expect("no panic under the lock")))
    }
}

#[tokio::test]
async fn a_provider_is_asked_again_when_the_server_refuses_what_it_gave() {
    let server = Server::builder().user("app", "old", RULES).start().unwrap();
    let password = Arc::new(Mutex::new("old"));
    let config = Config::builder()
        .url(server.url())
        .command_links(2.try_into().unwrap())
        .credential_provider(Vault(Arc::clone(&password)));
    let conn = Conn::connect(config).await.unwrap();
    let mut changes = conn.state_changes();
    *password.lock().unwrap() = "new";
    acl(&server, &["<old", ">new"]);
    server.command(["CLIENT", "KILL", "USER", "app"]).unwrap();
    let seen = reach(&mut changes, State::Connected).await;
    assert!(seen.iter().all(|change| change.current != State::Error), "{seen:?}");
    assert_eq!(conn.increment("n", 1).await.unwrap(), 1);
}

#[derive(Debug)]
struct Broken;

#[async_trait::async_trait]
impl CredentialProvider for Broken {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        Err("the vault is sealed".into())
    }
}

#[derive(Debug)]
struct Mute;

#[async_trait::async_trait]
impl CredentialProvider for Mute {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_provider_that_fails_or_hangs_fails_the_connect_in_time() {
    let server = crate::server();
    let config = Config::builder().url(server.url()).credential_provider(Broken);
    let err = Conn::connect(config).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Auth);
    let source = std::error::Error::source(&err).unwrap().to_string();
    assert_eq!(source, "the vault is sealed");

    let timeout = Duration::from_millis(200);
    let config =
        Config::builder().url(server.url()).credential_provider(Mute).connect_timeout(timeout);
    let started = Instant::now();
    let err = Conn::connect(config).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Timeout);
    assert!(started.elapsed() < timeout + PATIENCE / 10);
}
