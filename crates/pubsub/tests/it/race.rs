//! Each guard of each script, against processes that do the same at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use redbrick_pubsub::{Joined, PubSub};
use tokio::{task::JoinSet, time::timeout};

use crate::{PATIENCE, SHORT, Texts, message, some, team, until};

const TASKS: usize = 4;

async fn together<Task>(team: Vec<PubSub>, task: impl Fn(u32, PubSub) -> Task)
where
    Task: Future<Output = ()> + Send + 'static,
{
    let mut all = JoinSet::new();
    for (n, pubsub) in (0..).zip(team) {
        all.spawn(task(n, pubsub));
    }
    while let Some(done) = all.join_next().await {
        done.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_who_join_as_the_same_member_is_new_and_one_leaves() {
    let team = team("race-join", TASKS).await;
    let room: Texts = team[0].room("count");
    for round in 0..30 {
        let (new, left) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        together(team.clone(), |_, pubsub| {
            let new = Arc::clone(&new);
            async move {
                let room: Texts = pubsub.room(format!("room {round}"));
                if room.join("ada", &"x".into()).await.unwrap() == Joined::New {
                    new.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
        .await;
        assert_eq!(new.load(Ordering::SeqCst), 1, "round {round}");
        together(team.clone(), |_, pubsub| {
            let left = Arc::clone(&left);
            async move {
                let room: Texts = pubsub.room(format!("room {round}"));
                if room.leave("ada").await.unwrap() {
                    left.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
        .await;
        assert_eq!(left.load(Ordering::SeqCst), 1, "round {round}");
    }
    assert_eq!(room.count().await.unwrap(), 0);
}

/// Three keep a member that the fourth one lets leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_left_is_not_brought_back_by_being_kept() {
    let team = team("race-keep", TASKS).await;
    for round in 0..30 {
        let room: Texts = team[0].room(format!("room {round}"));
        room.join("ada", &"x".into()).await.unwrap();
        together(team.clone(), |n, pubsub| async move {
            let room: Texts = pubsub.room(format!("room {round}"));
            if n == 0 {
                assert!(room.leave("ada").await.unwrap());
                return;
            }
            let kept = async { while room.keep("ada").await.unwrap() {} };
            timeout(PATIENCE, kept).await.expect("it is gone for good");
        })
        .await;
        assert_eq!(room.count().await.unwrap(), 0, "round {round}");
        assert!(room.members().await.unwrap().members.is_empty());
    }
}

/// Leases end while others join, keep and list: nobody who is kept is lost, and nobody else stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_lease_ends_goes_and_no_other_goes_with_it() {
    let team = team("race-lease", TASKS).await;
    let room: Texts = team[0].room("lobby");
    together(team, |n, pubsub| async move {
        let room: Texts = pubsub.room("lobby");
        let own = format!("lives {n}");
        assert_eq!(room.join(&own, &own).await.unwrap(), Joined::New);
        for round in 0..30 {
            let dies = format!("dies {n} {round}");
            let hasty = room.clone().lease(SHORT);
            assert_eq!(hasty.join(&dies, &"x".into()).await.unwrap(), Joined::New);
            assert!(room.keep(&own).await.unwrap(), "it is kept");
            let all = room.members().await.unwrap();
            assert!(all.unreadable.is_empty());
            let found = all.members.iter().find(|member| member.id == own.as_bytes());
            assert_eq!(found.expect("it lives").info, own);
        }
    })
    .await;
    until("the dead are gone", async || room.count().await.unwrap() == 4).await;
    assert_eq!(room.members().await.unwrap().members.len(), 4);
}

/// The history and all who listen agree on the order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_at_once_has_one_order_for_all() {
    const ROUNDS: u32 = 40;
    let team = team("race-said", TASKS).await;
    let total = ROUNDS * u32::try_from(TASKS).unwrap();
    let reader = team[0].room::<(), u32>("lobby");
    let mut stream = reader.subscribe().await.unwrap();
    together(team, |n, pubsub| async move {
        let room = pubsub.room::<(), u32>("lobby").history(some(50));
        for round in 0..ROUNDS {
            room.broadcast(&(n * ROUNDS + round)).await.unwrap();
        }
    })
    .await;
    let mut heard = Vec::new();
    for _ in 0..total {
        heard.push(message(&mut stream).await.payload);
    }
    let kept = reader.recent_n(some(1000)).await.unwrap().messages;
    let kept: Vec<u32> = kept.into_iter().map(|message| message.payload).collect();
    heard.reverse();
    assert_eq!(kept, heard[..50]);
}
