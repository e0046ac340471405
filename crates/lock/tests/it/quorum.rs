#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{Error, Locks, Quorum, Released, Wait};
use redbrick_testkit::Server;
use tokio::time::timeout;

use crate::{EAGER, LONG, PATIENCE, server, until};

const LEASE: Duration = Duration::from_secs(3);

/// Three masters, and locks on each.
async fn masters() -> (Vec<Arc<Server>>, Vec<Locks>, Quorum) {
    let servers: Vec<_> = (0..3).map(|_| server()).collect();
    let mut all = Vec::new();
    for server in &servers {
        let config = Config::builder().url(server.url()).command_timeout(Duration::from_secs(1));
        all.push(
            Locks::builder(Conn::connect(config).await.unwrap()).lease(LEASE).build().unwrap(),
        );
    }
    let quorum = Quorum::new(all.clone()).unwrap();
    (servers, all, quorum)
}

#[tokio::test]
async fn it_is_had_by_one_and_free_again() {
    let (_servers, all, quorum) = masters().await;
    assert_eq!(quorum.majority(), 2);
    let guard = quorum.lock("job").await.unwrap().expect("nobody has it");
    assert!(guard.is_valid() && guard.remaining() <= LEASE);
    for locks in &all {
        assert!(locks.is_locked("job").await.unwrap());
    }
    assert!(quorum.lock("job").wait(Wait::Never).await.unwrap().is_none());
    for locks in &all {
        assert!(locks.is_locked("job").await.unwrap(), "it is still had");
    }
    let waiting = tokio::spawn(quorum.lock("job").wait(EAGER).into_future());
    assert_eq!(guard.release().await, Released::Released);
    let next = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap().expect("its turn");
    drop(next);
    until("all are free", async || {
        let mut free = true;
        for locks in &all {
            free &= !locks.is_locked("job").await.unwrap();
        }
        free
    })
    .await;
}

#[tokio::test]
async fn it_survives_the_loss_of_one_master_and_not_of_two() {
    let (servers, all, quorum) = masters().await;
    let guard = quorum.lock("job").lease(LEASE).await.unwrap().expect("nobody has it");
    servers[0].kill().unwrap();
    let lease = LEASE * 3 / 2;
    assert!(timeout(lease, guard.lost()).await.is_err(), "the others renew it");
    assert!(guard.is_valid());
    assert_eq!(guard.release().await, Released::Released);
    let guard = quorum.lock("job").await.unwrap().expect("two are enough");
    servers[1].kill().unwrap();
    timeout(PATIENCE, guard.lost()).await.expect("the end of the lease");
    assert!(!guard.is_valid());
    let error = quorum.lock("other").lease(LEASE).wait(Wait::Never).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    until("it was given back", async || !all[2].is_locked("other").await.unwrap()).await;
}

#[tokio::test]
async fn work_under_it_is_stopped_when_too_few_grant_it() {
    let (_servers, all, quorum) = masters().await;
    assert_eq!(quorum.lock("job").with(async || 7).await.unwrap(), Some(7));
    let stopped = quorum.lock("job").with(async || {
        for locks in &all[..2] {
            assert!(locks.force_release("job").await.unwrap());
        }
        std::future::pending::<()>().await;
    });
    let error = timeout(PATIENCE, stopped).await.expect("with the next renewal").unwrap_err();
    assert!(matches!(error, Error::Lost), "{error:?}");
    let _one = all[0].lock("busy").lease(LONG).await.unwrap().unwrap();
    let _other = all[1].lock("busy").lease(LONG).await.unwrap().unwrap();
    let refused = quorum.lock("busy").wait(Wait::Never).with(async || panic!("it is not had"));
    assert_eq!(refused.await.unwrap(), None::<()>);
    assert!(!all[2].is_locked("busy").await.unwrap(), "what was granted was given back");
}

#[tokio::test]
async fn fewer_than_three_are_refused() {
    let (_servers, all, quorum) = masters().await;
    let error = Quorum::new(all[..2].to_vec()).unwrap_err();
    assert!(matches!(error, Error::Masters), "{error:?}");
    let error = quorum.lock("job").lease(Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::Lease), "{error:?}");
}
