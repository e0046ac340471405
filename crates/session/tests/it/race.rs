//! What processes that work at the same time cannot do to each other; a connection stands for a process.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use redbrick_core_conn::Conn;
use redbrick_session::{DEFAULT_EXTENSION, Saved, SessionId, SessionKey, Sessions};
use redbrick_testkit::unique;
use tokio::task::JoinSet;

use crate::{Cart, cart, connect_as, index_key, session_key};

/// Some connections with one prefix.
async fn processes<D>(test: &str, count: usize) -> Vec<(Conn, Sessions<D>)> {
    let prefix = unique(test);
    let mut all = Vec::new();
    for _ in 0..count {
        let conn = connect_as(&prefix).await;
        all.push((conn.clone(), Sessions::new(conn)));
    }
    all
}

/// How often something is tried: ten times as often in the long form.
fn rounds(short: u32) -> u32 {
    let is_long = std::env::var_os("REDBRICK_TEST_SOAK").is_some();
    if is_long { short * 10 } else { short }
}

/// Ends a session while four others use it by `using`, again and again; it stays ended.
async fn ends_for_good<F>(
    test: &str,
    using: impl Fn(Sessions<Cart>, SessionId) -> F + Copy + Send + 'static,
) where
    F: Future<Output = bool> + Send + 'static,
{
    let all = processes::<Cart>(test, 5).await;
    let (conn, sessions) = &all[0];
    let mut used = 0;
    for round in 0..rounds(400) {
        let made = sessions.create("ada", cart("x")).await.unwrap();
        let id = *made.id();
        let mut users = JoinSet::new();
        for (_, sessions) in &all[1..] {
            let sessions = sessions.clone();
            users.spawn(async move {
                let mut used = 0;
                while using(sessions.clone(), id).await {
                    used += 1;
                }
                used
            });
        }
        // Deletes as soon as it is in use for a while, which is longer or shorter each time.
        for _ in 0..round % 8 {
            assert!(sessions.is_valid(&id).await.unwrap());
        }
        assert!(sessions.delete(&id).await.unwrap());
        used += users.join_all().await.into_iter().sum::<u32>();

        assert!(!conn.exists(session_key(&id)).await.unwrap(), "round {round}: it came back");
        assert!(sessions.get(&id).await.unwrap().is_none());
        let entries = conn.sorted_set(index_key("ada")).len().await.unwrap();
        assert_eq!(entries, 0, "round {round}: it is listed");
    }
    assert!(used > 400, "used {used} times before its ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_touch_brings_a_session_back() {
    ends_for_good("race-touch", async |sessions: Sessions<Cart>, id| {
        sessions.touch(&id).await.unwrap() && sessions.get_and_touch(&id).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_activity_and_no_extension_brings_a_session_back() {
    ends_for_good("race-extend", async |sessions: Sessions<Cart>, id| {
        sessions.update_activity(&id).await.unwrap()
            && sessions.extend(&id, DEFAULT_EXTENSION).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_brings_a_session_back() {
    ends_for_good("race-change", async |sessions: Sessions<Cart>, id| {
        let Some(mut session) = sessions.get(&id).await.unwrap() else { return false };
        sessions.save(&mut session).await.unwrap() != Saved::Gone
            && sessions.update(&id, &cart("y")).await.unwrap()
            && sessions.update_metadata(&id, [("k", Some("v"))]).await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_update_is_lost_between_reading_and_saving() {
    let all = processes::<u64>("race-save", 8).await;
    let id = *all[0].1.create("ada", 0).await.unwrap().id();
    let mut writers = JoinSet::new();
    for (_, sessions) in &all {
        let sessions = sessions.clone();
        writers.spawn(async move {
            let (mut saved, mut conflicts) = (0, 0);
            while saved < 40 {
                let mut session = sessions.get(&id).await.unwrap().unwrap();
                session.data += 1;
                session.metadata.insert("last".to_owned(), session.data.to_string());
                match sessions.save(&mut session).await.unwrap() {
                    Saved::Saved => saved += 1,
                    Saved::Conflict => conflicts += 1,
                    other => panic!("{other:?}"),
                }
            }
            conflicts
        });
    }
    let conflicts: u32 = writers.join_all().await.into_iter().sum();
    let session = all[0].1.get(&id).await.unwrap().unwrap();
    assert_eq!(session.data, 8 * 40);
    assert_eq!((session.version(), session.metadata["last"].as_str()), (8 * 40 + 1, "320"));
    assert!(conflicts > 0, "they met");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_different_fields_all_win() {
    let all = processes::<Cart>("race-metadata", 4).await;
    let id = *all[0].1.create("ada", cart("x")).await.unwrap().id();
    let mut writers = JoinSet::new();
    for (process, (_, sessions)) in all.iter().enumerate() {
        let sessions = sessions.clone();
        writers.spawn(async move {
            for n in 0..100 {
                let change = [(format!("{process}:{n}"), Some("v"))];
                assert!(sessions.update_metadata(&id, change).await.unwrap());
            }
        });
    }
    writers.join_all().await;
    let session = all[0].1.get(&id).await.unwrap().unwrap();
    assert_eq!((session.metadata.len(), session.version()), (400, 401));
}

/// Sessions begin on four connections while `end` runs on a fifth, which is given those that had begun before.
async fn against_new_ones(
    test: &str,
    end: impl AsyncFn(&Sessions<Cart>, &[SessionId]),
) -> (Sessions<Cart>, Vec<SessionId>) {
    let all = processes::<Cart>(test, 5).await;
    let begun = Arc::new(Mutex::new(Vec::new()));
    let over = Arc::new(Mutex::new(false));
    let mut creators = JoinSet::new();
    for (_, sessions) in &all[1..] {
        let (sessions, begun, over) = (sessions.clone(), Arc::clone(&begun), Arc::clone(&over));
        creators.spawn(async move {
            while !*over.lock().unwrap() {
                let made = sessions.create("ada", cart("x")).await.unwrap();
                begun.lock().unwrap().push(*made.id());
            }
        });
    }
    let sessions = all[0].1.clone();
    for _ in 0..rounds(40) {
        let before = begun.lock().unwrap().clone();
        end(&sessions, &before).await;
        for id in before.iter().rev().take(50) {
            assert!(!sessions.is_valid(id).await.unwrap(), "it had begun before");
        }
    }
    *over.lock().unwrap() = true;
    creators.join_all().await;
    let begun = begun.lock().unwrap().clone();
    assert!(begun.len() > 40, "{}", begun.len());
    (sessions, begun)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_had_begun_end_while_others_begin() {
    let (sessions, begun) = against_new_ones("race-all", async |sessions, _| {
        sessions.delete_all("ada").await.unwrap();
    })
    .await;
    sessions.delete_all("ada").await.unwrap();
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
    for id in &begun {
        assert!(!sessions.is_valid(id).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_current_session_stays_while_others_begin() {
    let current = Mutex::new(None);
    let (sessions, _) = against_new_ones("race-others", async |sessions, _| {
        let id = current.lock().unwrap().take();
        let id = match id {
            Some(id) => id,
            None => *sessions.create("ada", cart("current")).await.unwrap().id(),
        };
        sessions.delete_others("ada", &id).await.unwrap();
        assert!(sessions.touch(&id).await.unwrap(), "it stays");
        *current.lock().unwrap() = Some(id);
    })
    .await;
    let current = current.lock().unwrap().unwrap();
    sessions.delete_others("ada", &current).await.unwrap();
    let list = sessions.list("ada").await.unwrap();
    assert!(list.len() == 1 && list[0].is_current(&current), "{list:?}");
}

/// A source of choices that repeats itself, so that a failure can be repeated.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_is_that_of_the_sessions_that_live() {
    let all = processes::<Cart>("race-index", 4).await;
    let (ada, eve) = crate::neighbours();
    let known = Arc::new(Mutex::new(Vec::<SessionId>::new()));
    let mut processes = JoinSet::new();
    for (process, (_, sessions)) in all.iter().enumerate() {
        let (sessions, known) = (sessions.clone(), Arc::clone(&known));
        let users = [ada.clone(), eve.clone()];
        processes.spawn(async move {
            let mut choices = Choices(process as u64);
            for _ in 0..rounds(600) {
                let user = &users[choices.below(2)];
                let id = {
                    let known = known.lock().unwrap();
                    (!known.is_empty()).then(|| known[choices.below(known.len())])
                };
                let choice = choices.below(20);
                match (choice, id) {
                    (0..6, _) | (_, None) => {
                        let life = [Duration::from_millis(20), DEFAULT_EXTENSION][choices.below(2)];
                        let made = sessions.create(user, cart("x")).time_to_live(life).await;
                        known.lock().unwrap().push(*made.unwrap().id());
                    }
                    (6..9, Some(id)) => {
                        sessions.delete(&id).await.unwrap();
                    }
                    (9..12, Some(id)) => {
                        sessions.touch(&id).await.unwrap();
                    }
                    (12, Some(id)) => drop(sessions.get_and_touch(&id).await.unwrap()),
                    (13, Some(id)) => {
                        sessions.extend(&id, Duration::from_millis(10)).await.unwrap();
                    }
                    (14, Some(id)) => {
                        sessions.delete_key(user, &id.key()).await.unwrap();
                    }
                    (15, Some(id)) if choices.below(10) == 0 => {
                        sessions.delete_others(user, &id).await.unwrap();
                    }
                    (16, Some(id)) => {
                        sessions.update(&id, &cart("y")).await.unwrap();
                    }
                    (17, _) => drop(sessions.list(user).await.unwrap()),
                    _ => {
                        sessions.count(user).await.unwrap();
                    }
                }
            }
        });
    }
    processes.join_all().await;

    let (conn, sessions) = &all[0];
    let known = known.lock().unwrap().clone();
    // Those with a short life end meanwhile, so it is looked at until nothing changed between the two sides.
    let live = async || {
        let mut live = BTreeSet::<SessionKey>::new();
        for id in &known {
            if sessions.is_valid(id).await.unwrap() {
                live.insert(id.key());
            }
        }
        live
    };
    let same = async || {
        let before = live().await;
        let mut listed = BTreeSet::new();
        let mut count = 0;
        for user in [&ada, &eve] {
            listed.extend(sessions.list(user).await.unwrap().iter().map(|info| info.key));
            count += sessions.count(user).await.unwrap();
        }
        let entries = conn.sorted_set(index_key(&ada)).len().await.unwrap();
        (before == live().await).then_some((before, listed, count, entries))
    };
    let settled = crate::until("a moment without an end", same, Option::is_some).await;
    let (live, listed, count, entries) = settled.unwrap();
    assert!(!live.is_empty() && live.len() < known.len(), "{} of {}", live.len(), known.len());
    assert_eq!(listed, live);
    assert_eq!((count, entries), (live.len() as u64, live.len() as u64));
}
