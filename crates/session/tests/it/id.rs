//! Ids: what is stored of them, and those that were never issued.

use std::collections::BTreeSet;

use redbrick_session::{Device, Error, SessionId, SessionKey};

use crate::{cart, own, sessions};

/// Every key of the server with all that it holds.
fn dump(server: &redbrick_testkit::Server) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = server.command(["SCAN", &cursor, "COUNT", "1000"]).unwrap();
        let [next, keys] = reply.as_array().unwrap() else { panic!("{reply:?}") };
        for key in keys.as_array().unwrap() {
            let key = key.as_bytes().unwrap();
            found.push(key.to_vec());
            let dumped = server.command([b"DUMP".as_slice(), key]).unwrap();
            found.push(dumped.as_bytes().unwrap().to_vec());
            let kind = server.command([b"TYPE".as_slice(), key]).unwrap();
            let read: Vec<&[u8]> = match kind.as_str().unwrap() {
                "hash" => vec![b"HGETALL", key],
                "zset" => vec![b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
                other => panic!("{other}"),
            };
            let reply = server.command(read).unwrap();
            let parts = reply.as_array().unwrap().iter();
            found.extend(parts.map(|part| part.as_bytes().unwrap().to_vec()));
        }
        cursor = next.as_str().unwrap().to_owned();
        if cursor == "0" {
            return found;
        }
    }
}

#[tokio::test]
async fn no_copy_of_the_database_opens_a_session() {
    let (server, sessions) = own().await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let device = Device::new().user_agent("curl");
        let mut made = sessions.create("ada", cart("x")).device(device).await.unwrap();
        let id = *made.id();
        assert!(sessions.touch(&id).await.unwrap() && sessions.get(&id).await.unwrap().is_some());
        assert!(sessions.update_metadata(&id, [("n", Some(n.to_string()))]).await.unwrap());
        assert!(sessions.update(&id, &cart("y")).await.unwrap());
        let _conflict = sessions.save(&mut made).await.unwrap();
        ids.push(id);
    }

    let stored = dump(&server);

    assert!(stored.len() > 20 * 10, "{}", stored.len());
    let contains =
        |needle: &[u8]| stored.iter().any(|bytes| bytes.windows(needle.len()).any(|w| w == needle));
    for id in &ids {
        let text = id.expose();
        let hex: Vec<u8> = (4..68)
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect();
        // Any quarter of the random part, as text and as bytes.
        for at in 0..4 {
            assert!(!contains(&text.as_bytes()[4 + 16 * at..20 + 16 * at]));
            assert!(!contains(text[4 + 16 * at..20 + 16 * at].to_uppercase().as_bytes()));
            assert!(!contains(&hex[8 * at..8 * at + 8]));
        }
        // The search finds what is there.
        assert!(contains(id.key().to_string().as_bytes()));
    }
}

#[tokio::test]
async fn an_id_that_was_not_issued_is_nobodys() {
    let sessions = sessions("not-issued").await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    let text = made.id().expose();
    let flip = |at: usize| {
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &text[..at], &text[at + 1..])
    };
    // Another partition, another id in the same one, and one of thin air.
    for forged in [flip(0), flip(3), flip(4), flip(67), "0".repeat(68)] {
        let id: SessionId = forged.parse().unwrap();
        assert!(sessions.get(&id).await.unwrap().is_none());
        assert!(sessions.get_and_touch(&id).await.unwrap().is_none());
        assert!(!sessions.is_valid(&id).await.unwrap());
        assert!(!sessions.touch(&id).await.unwrap());
        assert!(!sessions.update_activity(&id).await.unwrap());
        assert!(sessions.extend(&id, redbrick_session::DEFAULT_EXTENSION).await.unwrap().is_none());
        assert!(!sessions.update(&id, &cart("y")).await.unwrap());
        assert!(!sessions.update_metadata(&id, [("k", Some("v"))]).await.unwrap());
        assert!(!sessions.delete(&id).await.unwrap());
        assert!(!sessions.delete_key("ada", &id.key()).await.unwrap());
        assert!(!sessions.is_valid(&id).await.unwrap(), "asking created nothing");
    }
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
    assert_eq!(sessions.get(made.id()).await.unwrap().unwrap().data, cart("x"));
}

#[tokio::test]
async fn ids_are_new_each_time() {
    let sessions = sessions("new-ids").await;
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let made = sessions.create("ada", cart("x")).await.unwrap();
        assert!(seen.insert(made.id().expose()[4..].to_owned()));
        assert_eq!(made.id().expose().parse::<SessionId>().unwrap(), *made.id());
    }
}

#[test]
fn a_text_that_is_no_id_is_told_apart_before_anything_is_sent() {
    for text in ["", "\0", "../../etc", &"f".repeat(67), &"f".repeat(65_536), &"F".repeat(68)] {
        assert!(matches!(text.parse::<SessionId>(), Err(Error::InvalidId)));
        assert!(matches!(text.parse::<SessionKey>(), Err(Error::InvalidKey)));
    }
}
