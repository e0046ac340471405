//! Locks and semaphores.

use std::{error::Error, num::NonZeroU32, time::Duration};

use redbrick::{lock::Wait, prelude::*};
use tokio::task::JoinSet;

use crate::steps::Tour;

pub(crate) async fn walk(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("lock: one at a time, across processes");
    let locks = Locks::builder(conn.clone()).holder("the tour").build()?;
    let Some(guard) = locks.try_lock("report").await? else { return Err("who has it?".into()) };
    tour.say(format_args!("ours for {:?}, fence {}", guard.remaining(), guard.fence()));
    tour.say(format_args!("somebody else tries: {:?}", locks.try_lock("report").await?));
    if let Some(info) = locks.info("report").await? {
        tour.say(format_args!("held by {} for {:?} more", info.holder, info.remaining));
    }
    tour.say(format_args!("given back: {:?}", guard.release().await?));

    // Read, add, write: without the lock, updates would be lost.
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (locks, conn) = (locks.clone(), conn.clone());
        tasks.spawn(async move {
            let patient = locks.lock("balance").wait(Wait::For(Duration::from_secs(30)));
            let paid_in = patient.with(|_fence| async {
                let balance: i64 = conn.get("balance").await?.unwrap_or_default();
                conn.set("balance", &(balance + 10)).time_to_live(Duration::from_secs(60)).await
            });
            paid_in.await.map(|done| done.is_some())
        });
    }
    while let Some(paid_in) = tasks.join_next().await {
        assert!(paid_in??, "30 seconds are enough for eight");
    }
    let balance: Option<i64> = conn.get("balance").await?;
    tour.say(format_args!("8 tasks paid in 10 each, read and written under a lock: {balance:?}"));

    let two = NonZeroU32::new(2).expect("it is not zero");
    let converters = locks.semaphore("converters", two);
    let (first, second) = (converters.try_acquire().await?, converters.try_acquire().await?);
    let third = converters.try_acquire().await?;
    let had = [&first, &second, &third].map(|permit| permit.is_some());
    tour.say(format_args!("two permits for three: {had:?}"));
    for permit in [first, second].into_iter().flatten() {
        permit.release().await?;
    }
    Ok(())
}
