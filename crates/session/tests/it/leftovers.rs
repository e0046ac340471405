//! What is left when all is over: nothing.

use std::time::Duration;

use redbrick_session::Sessions;

use crate::{Cart, cart, eventually, own};

#[tokio::test]
async fn nothing_is_left_when_all_sessions_have_ended() {
    let (server, sessions) = own().await;
    let size = || server.command(["DBSIZE"]).unwrap().as_int().unwrap();
    let mut made = Vec::new();
    for n in 0..50 {
        let create = sessions.create(["ada", "eve"][n % 2], cart("x")).role("r");
        made.push(create.metadata([("k", "v")]).await.unwrap());
    }
    for session in &mut made {
        assert!(sessions.touch(session.id()).await.unwrap());
        assert!(sessions.update_metadata(session.id(), [("l", Some("w"))]).await.unwrap());
    }
    assert!(size() > 50);
    for session in &made[..20] {
        assert!(sessions.delete(session.id()).await.unwrap());
    }
    assert_eq!(sessions.delete_all("ada").await.unwrap(), 15);
    assert_eq!(sessions.delete_others("eve", made[49].id()).await.unwrap(), 14);
    assert!(sessions.delete_key("eve", &made[49].id().key()).await.unwrap());
    assert_eq!(size(), 0);
}

#[tokio::test]
async fn nothing_is_left_when_all_sessions_have_expired() {
    let (server, sessions) = own().await;
    let short =
        Sessions::<Cart>::builder(redbrick_core_conn::Conn::connect(server.url()).await.unwrap())
            .name("short")
            .time_to_live(Duration::from_millis(100))
            .absolute_time_to_live(Duration::from_millis(300))
            .build();
    for n in 0..100 {
        let user = format!("user {}", n % 7);
        let life = Duration::from_millis(20 + n);
        let made = sessions.create(&user, cart("x")).time_to_live(life).await.unwrap();
        sessions.touch(made.id()).await.unwrap();
        sessions.extend(made.id(), Duration::from_millis(50)).await.unwrap();
        let made = short.create(&user, cart("x")).await.unwrap();
        short.touch(made.id()).await.unwrap();
        short.update(made.id(), &cart("y")).await.unwrap();
    }
    for key in keys(&server) {
        let left = server.command(["PTTL", &key]).unwrap().as_int().unwrap();
        assert_ne!(left, -1, "{key} has no end");
    }
    eventually("an empty database", move || {
        server.command(["DBSIZE"]).unwrap().as_int() == Some(0)
    })
    .await;
}

fn keys(server: &redbrick_testkit::Server) -> Vec<String> {
    let reply = server.command(["SCAN", "0", "COUNT", "100000"]).unwrap();
    let keys = reply.as_array().unwrap()[1].as_array().unwrap().iter();
    keys.map(|key| key.as_str().unwrap().to_owned()).collect()
}
