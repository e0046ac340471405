//! What processes do at the same time, each on a connection of its own.

use std::time::Duration;

use redbrick_resource::{Error, Resource};
use redbrick_testkit::unique;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{User, connect_below, size, state, user};

/// How many processes there are.
const TASKS: usize = 6;

/// As many handles as tasks, each on a connection of its own.
async fn processes(test: &str) -> Vec<Resource<User>> {
    let prefix = unique(test);
    let mut all = Vec::new();
    for _ in 0..TASKS {
        all.push(Resource::new(connect_below(&prefix).await));
    }
    all
}

/// Runs the same in each of them; returns what each returned.
async fn each<T, Run, Running>(all: &[Resource<User>], run: Run) -> Vec<T>
where
    T: Send + 'static,
    Run: Fn(usize, Resource<User>) -> Running,
    Running: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (n, users) in all.iter().enumerate() {
        tasks.spawn(run(n, users.clone()));
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_creates_of_one_id_exactly_one_wins() {
    let all = processes("race_create").await;
    for id in 0..30 {
        let won = each(&all, |n, users| async move {
            let mine = User { email: None, tags: vec![n.to_string()], ..user(id) };
            match users.create(&mine).await {
                Ok(()) => Some(mine),
                Err(Error::Exists) => None,
                Err(other) => panic!("{other:?}"),
            }
        });
        let won: Vec<User> = won.await.into_iter().flatten().collect();
        assert_eq!(won, [all[0].get(id.to_string()).await.unwrap()]);
    }
    assert_eq!(state::check(&all[0]).await, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_records_with_one_unique_value_exactly_one_is_stored() {
    let all = processes("race_unique").await;
    for round in 0..30 {
        let won = each(&all, |n, users| async move {
            let email = Some(format!("{round}@example.com"));
            let mine = User { email, ..user(format!("{round}-{n}")) };
            match users.save(&mine).await {
                Ok(_) => Some(mine),
                Err(Error::UniqueTaken { .. }) => None,
                Err(other) => panic!("{other:?}"),
            }
        });
        let won: Vec<User> = won.await.into_iter().flatten().collect();
        let found = all[0].get_by("email", &format!("{round}@example.com")).await.unwrap();
        assert_eq!(won, [found]);
    }
    assert_eq!(state::check(&all[0]).await, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_of_different_fields_all_survive() {
    let all = processes("race_update").await;
    all[0].create(&user("a")).await.unwrap();
    for round in 0..30_u32 {
        each(&all[..4], |n, users| async move {
            let patch = match n {
                0 => json!({"age": round}),
                1 => json!({"city": format!("city {round}")}),
                2 => json!({"tags": [round.to_string()]}),
                _ => json!({"email": format!("{round}@b"), "nick": round.to_string()}),
            };
            users.update("a", &patch).await.unwrap();
        })
        .await;
        let expected = User {
            id: "a".to_owned(),
            email: Some(format!("{round}@b")),
            city: Some(format!("city {round}")),
            age: round,
            tags: vec![round.to_string()],
            nick: Some(round.to_string()),
        };
        assert_eq!(all[0].get("a").await.unwrap(), expected);
        state::check(&all[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pick_hands_each_record_to_exactly_one() {
    let all = processes("race_pick").await;
    for id in 0..30 {
        all[0].create(&user(id)).await.unwrap();
    }
    let picked = each(&all, |n, users| async move {
        let mut mine = Vec::new();
        for id in 0..30 {
            // Half of them the other way round, so that they meet.
            let id = if n % 2 == 0 { id } else { 29 - id };
            match users.pick(id.to_string()).await {
                Ok(picked) => mine.push(picked.id.parse::<u32>().unwrap()),
                Err(Error::Unknown) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        mine
    });
    let mut picked: Vec<u32> = picked.await.into_iter().flatten().collect();
    picked.sort_unstable();
    assert_eq!(picked, (0..30).collect::<Vec<_>>());
    assert_eq!(state::check(&all[0]).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_comes_back_by_no_update_and_no_replace() {
    let all = processes("race_removed").await;
    for round in 0..20 {
        let id = format!("{round}");
        all[0].create(&user(&id)).await.unwrap();
        each(&all, |n, users| {
            let id = id.clone();
            async move {
                for age in 0..5 {
                    let outcome = match n {
                        0 if age == 2 => users.delete(&id).await.map(drop),
                        0 | 1 => {
                            users.touch(&id).time_to_live(Duration::from_secs(99)).await.map(drop)
                        }
                        2 | 3 => {
                            users.update(&id, &json!({"age": age, "city": null})).await.map(drop)
                        }
                        _ => users.replace(&User { age, ..user(&id) }).await,
                    };
                    assert!(matches!(outcome, Ok(()) | Err(Error::Unknown)), "{outcome:?}");
                }
            }
        })
        .await;
        assert!(!all[0].exists(&id).await.unwrap());
        assert_eq!(state::check(&all[0]).await, 0);
    }
}

/// Records go by another hand and come again, while others want their value: what finds a record that is there stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_value_of_a_record_that_is_there_again_stays_taken() {
    let all = processes("race_forget").await;
    let email = Some("one@example.com".to_owned());
    each(&all, |n, users| {
        let email = email.clone();
        async move {
            let mine = User { email, ..user(n) };
            for round in 0..40 {
                match users.create(&mine).await {
                    Ok(()) if round % 2 == 0 => {
                        users.conn().delete(users.key(&mine.id)).await.unwrap();
                        users.list().await.unwrap();
                    }
                    Ok(()) => {
                        let owner = users.get_by("email", "one@example.com").await.unwrap();
                        assert_eq!(owner.id, mine.id, "while it is there it has its value");
                        users.delete(&mine.id).await.unwrap();
                    }
                    Err(Error::UniqueTaken { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    })
    .await;
    let left = all[0].list().await.unwrap();
    assert_eq!((left.items.len(), left.unreadable.len()), (0, 0), "{left:?}");
    assert_eq!(state::check(&all[0]).await, 0);
}

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

async fn anything(users: &Resource<User>, random: &mut Random) -> Result<(), Error> {
    let id = random.below(12).to_string();
    let email = match random.below(4) {
        0 => None,
        n => Some(format!("{}@example.com", random.below(4) + n)),
    };
    let city = (random.below(3) > 0).then(|| format!("city {}", random.below(3)));
    let age = u32::from(random.below(2) == 0);
    let mine = User { email: email.clone(), city: city.clone(), age, ..user(&id) };
    let short = Duration::from_millis(random.below(4));
    match random.below(11) {
        0 => users.create(&mine).await,
        1 => users.create(&mine).time_to_live(short).await,
        2 => users.save(&mine).await.map(drop),
        3 => users.save(&mine).time_to_live(short).await.map(drop),
        4 => users.replace(&mine).await,
        5 => users.update(&id, &json!({"age": age})).await.map(drop),
        6 => users.update(&id, &json!({"email": email, "city": city})).await.map(drop),
        7 => users.update(&id, &json!({"city": city})).time_to_live(short).await.map(drop),
        8 => users.delete(&id).await.map(drop),
        9 => users.pick(&id).await.map(drop),
        _ => users.touch(&id).time_to_live(short).await.map(drop),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_history_what_finds_the_records_is_what_they_say() {
    let all = processes("race_history").await;
    for round in 0..8_u64 {
        each(&all, |n, users| async move {
            let mut random = Random(round * 100 + n as u64);
            for _ in 0..60 {
                match anything(&users, &mut random).await {
                    Ok(()) | Err(Error::Unknown | Error::Exists | Error::UniqueTaken { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        })
        .await;
        // A list takes out those whose life has ended.
        let expiring = all[0].conn().sorted_set(state::key("expiry"));
        let settled = async {
            while expiring.len().await.unwrap() > 0 {
                all[0].list().await.unwrap();
            }
        };
        tokio::time::timeout(crate::PATIENCE, settled).await.expect("all short lives end");
        let left = state::check(&all[0]).await;
        let listed = all[0].list().size(size(100)).await.unwrap();
        assert_eq!((listed.items.len(), listed.total), (left, left as u64));
    }
}
