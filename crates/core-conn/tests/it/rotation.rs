//! Credentials change while the connection is in use.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::{
    BoxError, Config, Conn, CredentialProvider, Credentials, ErrorKind, RotatingCredentials, State,
    async_trait,
};
use redbrick_testkit::Server;
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::{Instant, MissedTickBehavior, interval},
};

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
    let rotation = RotatingCredentials::new(Credentials::user("app", "pw0"));
    let config = Config::builder()
        .url(server.url())
        .command_links(2.try_into().unwrap())
        .credential_provider(rotation.clone());
    let conn = Conn::connect(config).await.unwrap();

    // 1,000 calls a second: ten every 10 ms, increments among them, which are never sent twice.
    let (stop, mut stopped) = oneshot::channel::<()>();
    let load = tokio::spawn({
        let conn = conn.clone();
        async move {
            let mut ticks = interval(Duration::from_millis(10));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut calls = Vec::new();
            // At least for three seconds, and through all rotations.
            while calls.len() < 3000 || stopped.try_recv() == Err(TryRecvError::Empty) {
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
    assert!(!load.is_finished(), "all of it happened under load");
    stop.send(()).unwrap();

    let calls = load.await.unwrap();
    let increments = i64::try_from(calls.len()).unwrap() / 2;
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(conn.count("n").await.unwrap(), Some(increments), "each counted once");
}

#[tokio::test]
async fn another_user_can_take_over() {
    let server =
        Server::builder().user("blue", "pw", RULES).user("green", "pw", RULES).start().unwrap();
    let rotation = RotatingCredentials::new(Credentials::user("blue", "pw"));
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
    let rotation = RotatingCredentials::new(Credentials::user("app", "right"));
    let config = Config::builder().url(server.url()).credential_provider(rotation.clone());
    let conn = Conn::connect(config).await.unwrap();
    let server = Arc::new(server);
    let first = ids(&server);
    rotation.rotate(Credentials::user("app", "wrong"));
    let watched = Arc::clone(&server);
    eventually("a refused login", move || {
        let log = watched.command(["ACL", "LOG"]).expect("the server");
        log.as_array().is_some_and(|entries| !entries.is_empty())
    })
    .await;
    conn.ping().await.unwrap();
    assert_eq!(
        (conn.state(), ids(&server)),
        (State::Connected, first.clone()),
        "the old link is in use"
    );
    let health = conn.health().await;
    assert!(health.healthy && health.warnings[0].contains("newest credentials"), "{health:?}");

    acl(&server, &[">wrong"]);
    let watched = Arc::clone(&server);
    eventually("the move", move || ids(&watched).iter().all(|id| !first.contains(id))).await;
    let healed = conn.clone();
    let runtime = tokio::runtime::Handle::current();
    eventually("no warning", move || runtime.block_on(healed.health()).warnings.is_empty()).await;
}

#[tokio::test]
async fn a_rotation_after_the_password_has_changed_leads_out_of_the_error_state() {
    let server = Server::builder().user("app", "old", RULES).start().unwrap();
    let rotation = RotatingCredentials::new(Credentials::user("app", "old"));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_refused_while_its_successor_is_dialed_is_not_given_up() {
    let server = Arc::new(Server::builder().user("app", "pw0", RULES).start().unwrap());
    let rotation = RotatingCredentials::new(Credentials::user("app", "pw0"));
    let config = Config::builder()
        .url(server.url())
        .credential_provider(rotation.clone())
        .reconnect_delay(Duration::from_millis(1), Duration::from_millis(20));
    let conn = Conn::connect(config).await.unwrap();
    let mut changes = conn.state_changes();
    for round in 1..=20 {
        acl(&server, &[&format!(">pw{round}"), &format!("<pw{}", round - 1)]);
        // The old link and the new one race: what is killed here can be either.
        rotation.rotate(Credentials::user("app", format!("pw{round}")));
        server.command(["CLIENT", "KILL", "USER", "app"]).unwrap();
        conn.with_command_timeout(PATIENCE).ping().await.unwrap();
    }
    conn.close(Duration::ZERO).await;
    while let Some(change) = changes.next().await {
        assert_ne!(change.current, State::Error, "{change:?}");
        if change.current == State::End {
            break;
        }
    }
}

/// Hands out `pw<n>` for the n-th request, each good for a short while.
#[derive(Debug)]
struct ShortLived(Arc<AtomicU32>);

#[async_trait]
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
    let mut changes = conn.state_changes();
    let first = ids(&server);
    let watched = Arc::clone(&server);
    let asking = Arc::clone(&asked);
    eventually("renewals, and a link made with the last", move || {
        asking.load(Ordering::SeqCst) >= 4 && ids(&watched) != first && ids(&watched).len() == 1
    })
    .await;
    // The first two are over: whoever still used them would be thrown out and refused.
    acl(&server, &["<pw0", "<pw1"]);
    conn.ping().await.unwrap();
    server.command(["CLIENT", "KILL", "USER", "app"]).unwrap();
    let seen = reach(&mut changes, State::Connected).await;
    assert!(seen.iter().all(|change| change.current != State::Error), "{seen:?}");
}

/// Announces a change without end, each time of another user.
#[derive(Debug)]
struct Restless(Arc<AtomicU32>);

#[async_trait]
impl CredentialProvider for Restless {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        Ok(match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Credentials::user("app", "pw"),
            n => Credentials::user(format!("nobody{n}"), "pw"),
        })
    }

    async fn changed(&self, _: &Credentials) {}
}

#[tokio::test]
async fn a_provider_that_changes_its_mind_without_end_stops_nobody() {
    let server = Server::builder().user("app", "pw", RULES).start().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let provider = Restless(Arc::clone(&asked));
    let config = Config::builder().url(server.url()).credential_provider(provider);
    let conn = Conn::connect(config).await.unwrap();
    // On this one thread a task that never waits would keep the timer from firing.
    let mut ticks = interval(Duration::from_millis(10));
    let started = Instant::now();
    for _ in 0..50 {
        ticks.tick().await;
        conn.ping().await.unwrap();
    }
    // A pause of at least 50 ms lies between two questions.
    let most = 3 + started.elapsed().as_millis() / 50;
    assert!(
        u128::from(asked.load(Ordering::SeqCst)) <= most,
        "{asked:?} questions, at most {most}"
    );
}

/// Panics, at connecting or later.
#[derive(Debug)]
struct Panicking {
    answers: AtomicU32,
}

#[async_trait]
impl CredentialProvider for Panicking {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        let left = self.answers.load(Ordering::SeqCst);
        assert_ne!(left, 0, "the provider panics");
        self.answers.store(left - 1, Ordering::SeqCst);
        Ok(Credentials::user("app", "old"))
    }

    async fn changed(&self, _: &Credentials) {
        panic!("the provider panics");
    }
}

#[tokio::test]
async fn a_provider_that_panics_is_an_error_and_no_more() {
    let server = Server::builder().user("app", "old", RULES).start().unwrap();
    let config = |answers: u32| {
        Config::builder()
            .url(server.url())
            .credential_provider(Panicking { answers: answers.into() })
    };
    let err = Conn::connect(config(0)).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Auth, "{err:?}");

    // Later it is a provider without an answer: it is asked again, and calls say what they wait for.
    let conn = Conn::connect(config(1)).await.unwrap();
    let mut changes = conn.state_changes();
    conn.ping().await.unwrap();
    acl(&server, &["<old", ">new"]);
    server.command(["CLIENT", "KILL", "USER", "app"]).unwrap();
    reach(&mut changes, State::Reconnecting).await;
    let err = conn.with_command_timeout(Duration::from_millis(500)).ping().await.unwrap_err();
    assert_eq!((err.kind(), conn.state()), (ErrorKind::Connect, State::Reconnecting), "{err:?}");
}

/// Knows the newest password, but does not announce a new one.
#[derive(Debug)]
struct Vault(Arc<Mutex<&'static str>>);

#[async_trait]
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

/// Answers what it is told to, in order, and then for ever the last.
#[derive(Debug)]
struct Scripted(Mutex<Vec<Option<Credentials>>>);

#[async_trait]
impl CredentialProvider for Scripted {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        let mut answers = self.0.lock().expect("no panic under the lock");
        let next = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        next.ok_or_else(|| "the vault is sealed for a moment".into())
    }
}

#[tokio::test]
async fn a_provider_that_fails_just_when_it_is_needed_is_asked_again() {
    let server = Server::builder().user("app", "old", RULES).start().unwrap();
    let (old, new) = (Credentials::user("app", "old"), Credentials::user("app", "new"));
    let provider = Scripted(Mutex::new(vec![Some(old), None, None, Some(new)]));
    let conn = Conn::connect(Config::builder().url(server.url()).credential_provider(provider));
    let conn = conn.await.unwrap();
    let mut changes = conn.state_changes();
    acl(&server, &["<old", ">new"]);
    server.command(["CLIENT", "KILL", "USER", "app"]).unwrap();
    let seen = reach(&mut changes, State::Connected).await;
    assert!(seen.iter().all(|change| change.current != State::Error), "{seen:?}");
    conn.ping().await.unwrap();
}

#[tokio::test]
async fn a_lazy_connection_waits_for_a_slow_provider_beyond_single_calls() {
    let server = Server::builder().user("app", "pw", RULES).start().unwrap();
    #[derive(Debug)]
    struct Slow;
    #[async_trait]
    impl CredentialProvider for Slow {
        async fn credentials(&self) -> Result<Credentials, BoxError> {
            let mut ticks = interval(Duration::from_millis(400));
            ticks.tick().await;
            ticks.tick().await;
            Ok(Credentials::user("app", "pw"))
        }
    }
    let config = Config::builder()
        .url(server.url())
        .command_timeout(Duration::from_millis(100))
        .credential_provider(Slow);
    let conn = Conn::connect_lazy(config).unwrap();
    let err = conn.increment("n", 1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(!err.is_outcome_unknown(), "nothing was even dialed");
    let deadline = Instant::now() + PATIENCE;
    while conn.increment("n", 1).await.is_err() {
        assert!(Instant::now() < deadline, "it goes on trying between calls");
    }
    assert_eq!(conn.count("n").await.unwrap(), Some(1));
}

#[tokio::test]
async fn ready_waits_for_credentials_that_lead_out_of_the_error_state() {
    let server = Server::builder().user("app", "old", RULES).start().unwrap();
    let rotation = RotatingCredentials::new(Credentials::user("app", "old"));
    let conn =
        Conn::connect(Config::builder().url(server.url()).credential_provider(rotation.clone()));
    let conn = conn.await.unwrap();
    let mut changes = conn.state_changes();
    acl(&server, &["<old", ">new"]);
    server.command(["CLIENT", "KILL", "USER", "app"]).unwrap();
    reach(&mut changes, State::Error).await;
    rotation.rotate(Credentials::user("app", "new"));
    conn.ready().await.unwrap();
    conn.ping().await.unwrap();
}

#[tokio::test]
async fn a_rotation_taken_back_leaves_no_warning() {
    let server = Server::builder().user("app", "right", RULES).start().unwrap();
    let rotation = RotatingCredentials::new(Credentials::user("app", "right"));
    let conn =
        Conn::connect(Config::builder().url(server.url()).credential_provider(rotation.clone()));
    let conn = conn.await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let warned = |wanted: bool| {
        let (conn, runtime) = (conn.clone(), runtime.clone());
        eventually("the warning to come or go", move || {
            runtime.block_on(conn.health()).warnings.is_empty() != wanted
        })
    };
    rotation.rotate(Credentials::user("app", "wrong"));
    warned(true).await;
    rotation.rotate(Credentials::user("app", "right"));
    warned(false).await;
}

#[tokio::test]
async fn closing_ends_the_calls_on_a_link_that_was_just_replaced_too() {
    let server = Arc::new(Server::builder().user("app", "pw0", RULES).start().unwrap());
    acl(&server, &[">pw1"]);
    let rotation = RotatingCredentials::new(Credentials::user("app", "pw0"));
    let config = Config::builder().url(server.url()).credential_provider(rotation.clone());
    let conn = Conn::connect(config).await.unwrap();
    let first = ids(&server);
    // Writes wait in the server for 4 s; what makes a link does not.
    server.command(["CLIENT", "PAUSE", "4000", "WRITE"]).unwrap();
    let call = tokio::spawn({
        let conn = conn.clone();
        async move { conn.increment("n", 1).await }
    });
    let watched = Arc::clone(&server);
    let arrived = move || client_list(&watched).iter().any(|line| line.contains(" cmd=incrby "));
    eventually("the call", arrived).await;
    rotation.rotate(Credentials::user("app", "pw1"));
    let watched = Arc::clone(&server);
    eventually("the move", move || ids(&watched).iter().any(|id| !first.contains(id))).await;
    assert!(!call.is_finished(), "it still waits, on the link before");
    let started = Instant::now();
    conn.close(Duration::from_millis(200)).await;
    // Interrupted by closing: its answer would come after 4 s, its own timeout after 5.
    let err = call.await.unwrap().unwrap_err();
    assert!(err.is_outcome_unknown(), "{err:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let watched = Arc::clone(&server);
    eventually("all sockets closed", move || ids(&watched).is_empty()).await;
}

#[derive(Debug)]
struct Broken;

#[async_trait]
impl CredentialProvider for Broken {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        Err("the vault is sealed".into())
    }
}

#[derive(Debug)]
struct Mute;

#[async_trait]
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
