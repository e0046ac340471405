//! What one caller may not do costs no other anything but a round trip.

use redbrick_core_conn::{Codec, Config, Conn, ErrorKind};
use redbrick_testkit::Server;

use super::at_once;
use crate::cost;

async fn conn(server: &Server) -> Conn {
    for n in 0..20 {
        server.command(["SET", &format!("open:{n}"), &n.to_string()]).unwrap();
        server.command(["SET", &format!("closed:{n}"), &n.to_string()]).unwrap();
    }
    let config = Config::builder().url(server.url()).username("app").password("pw");
    Conn::connect(config.codec(Codec::Plain)).await.unwrap()
}

#[tokio::test]
async fn a_key_that_may_not_be_read_is_an_error_for_its_caller_only() {
    let server = Server::builder().user("app", "pw", "~open:* &* +@all").start().unwrap();
    let conn = conn(&server).await;
    for _ in 0..3 {
        let keys =
            (0..20).map(|n| if n == 7 { format!("closed:{n}") } else { format!("open:{n}") });
        let found = at_once(keys.map(|key| conn.get::<usize>(key))).await;
        for (n, found) in (0..20).zip(found) {
            match found {
                Ok(found) => assert_eq!(found, Some(n)),
                Err(err) => assert_eq!((n, err.kind()), (7, ErrorKind::Denied)),
            }
        }
    }
}

#[tokio::test]
async fn after_a_refusal_callers_are_apart_for_a_while_and_together_again() {
    let server = Server::builder().user("app", "pw", "~open:* &* +@all").start().unwrap();
    let conn = conn(&server).await;
    let round = async || {
        let keys =
            (0..20).map(|n| if n == 7 { format!("closed:{n}") } else { format!("open:{n}") });
        at_once(keys.map(|key| conn.get::<usize>(key))).await
    };
    // One alone, the others refused together and then by themselves.
    let first = cost(&server, async { drop(round().await) }).await;
    let second = cost(&server, async { drop(round().await) }).await;
    assert!(!second.contains("mget"), "first {first}, then {second}");
    let open = async || at_once((0..20).map(|n| conn.get::<usize>(format!("open:{n}")))).await;
    let calls = async {
        // A thousand calls by themselves, and more that are not.
        for _ in 0..60 {
            open().await;
        }
    };
    let then = cost(&server, calls).await;
    assert!(then.contains("mget"), "{then}");
}

#[tokio::test]
async fn without_the_right_to_read_several_at_once_all_is_well() {
    let server = Server::builder().user("app", "pw", "~* &* +@all -mget").start().unwrap();
    let conn = conn(&server).await;
    for _ in 0..3 {
        let found = at_once((0..20).map(|n| conn.get::<usize>(format!("open:{n}")))).await;
        for (n, found) in (0..20).zip(found) {
            assert_eq!(found.unwrap(), Some(n));
        }
    }
}
