//! Rate limits.

use std::{error::Error, num::NonZeroU32};

use redbrick::{prelude::*, ratelimit::Algorithm};

use crate::steps::Tour;

const THREE: NonZeroU32 = NonZeroU32::new(3).unwrap();

pub(crate) async fn walk(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("ratelimit: three logins a minute");
    let quota = Quota::per_minute(THREE);
    for algorithm in [Algorithm::Gcra, Algorithm::SlidingLog, Algorithm::FixedWindow] {
        let name = format!("login by {algorithm:?}");
        let logins =
            RateLimiter::builder(conn.clone(), name, quota).algorithm(algorithm).build()?;
        let mut allowed = Vec::new();
        for _ in 0..4 {
            allowed.push(logins.consume("203.0.113.7").await?.is_allowed());
        }
        let fifth = logins.check("203.0.113.7").await?;
        let wait = fifth.retry_after_seconds();
        tour.say(format_args!("{algorithm:?}: {allowed:?}; the next one may come in {wait:?} s"));
        let other = logins.consume("198.51.100.4").await?;
        assert!(other.is_allowed(), "others are not concerned");
        logins.reset("203.0.113.7").await?;
        assert!(logins.consume("203.0.113.7").await?.is_allowed(), "after a reset");
    }
    tour.say("what was denied did not count, others were not concerned, and a reset was a reset");
    Ok(())
}
