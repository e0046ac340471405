use std::{sync::Arc, time::Duration};

use redbrick_core_conn::Conn;
use redbrick_lock::Locks;
use redbrick_testkit::Server;

use crate::{SHORT, acquired, eventually, keys, permits, server};

/// Locks whose fences are forgotten soon.
async fn forgetful(server: &Server) -> Locks {
    let conn = Conn::connect(server.url()).await.expect("the server");
    let memory = Duration::from_millis(200);
    Locks::builder(conn)
        .lease(SHORT)
        .renew(false)
        .fence_memory(memory)
        .build()
        .expect("it is in range")
}

#[tokio::test]
async fn nothing_is_left_of_what_is_over() {
    let server = server();
    let locks = forgetful(&server).await;
    let semaphore = locks.semaphore("jobs", permits(3));
    acquired(&locks, "released", SHORT).await.release().await.unwrap();
    drop(acquired(&locks, "dropped", SHORT).await);
    let token = acquired(&locks, "forgotten", SHORT).await.into_token();
    let _ = locks.extend("forgotten", &token, SHORT).await.unwrap();
    let _taken = acquired(&locks, "taken away", SHORT).await;
    locks.force_release("taken away").await.unwrap();
    locks.with_lock("with", async |_| ()).await.unwrap();
    let (mut one, two) = (semaphore.acquire(), semaphore.acquire());
    one = one.lease(SHORT * 2);
    let mut extended = one.await.unwrap().unwrap();
    let _ = extended.extend(SHORT * 3).await.unwrap();
    let _forgotten = (extended.into_token(), two.await.unwrap().unwrap().into_token());

    let all = Arc::clone(&server);
    eventually("an empty server", move || keys(&all) == 0).await;
}

#[tokio::test]
async fn every_key_there_is_has_a_time_to_live() {
    let server = server();
    let locks = forgetful(&server).await;
    let mut guard = acquired(&locks, "job", SHORT * 100).await;
    let mut permit = locks.semaphore("job", permits(2)).acquire().await.unwrap().unwrap();
    let life = |key: &str| server.command(["PTTL", key]).unwrap().as_int().unwrap();
    let all = [
        "lock:default:{90}:job",
        "lock:default:{90}",
        "lock:default:{90}:job:permits",
        "lock:default:{90}:job:permits:shares",
    ];
    for _ in 0..2 {
        assert_eq!(keys(&server), 4);
        for key in all {
            assert!(life(key) > 0, "{key}");
        }
        let _ =
            (guard.extend(SHORT * 200).await.unwrap(), permit.extend(SHORT * 200).await.unwrap());
    }
    permit.release().await.unwrap();
    guard.release().await.unwrap();
    assert!(life(all[1]) > 0, "the fence is remembered for a while");
    assert!(life("lock:default:{90}:job:released") > 0, "so is who released it");
    assert!(life("lock:default:{90}:job:permits:released") > 0, "and who released permits");
    assert_eq!(keys(&server), 3);
}
