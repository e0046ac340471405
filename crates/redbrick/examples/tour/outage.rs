//! What everybody does while Redis is away, and when it is back.

use std::{convert::Infallible, error::Error, num::NonZeroU32};

use redbrick::{prelude::*, ratelimit::Source};
use redbrick_testkit::Server;

use crate::steps::Tour;

pub(crate) async fn walk(
    tour: &mut Tour,
    conn: &Conn,
    server: &Server,
) -> Result<(), Box<dyn Error>> {
    tour.step("The server is killed, and nobody gives up");
    let locks = Locks::new(conn.clone());
    let before = locks.try_lock("leader").await?.ok_or("nobody else is here")?.fence();

    let mut changes = conn.state_changes();
    server.kill()?;
    tour.say("kill -9");
    while let Some(change) = changes.next().await {
        tour.say(format_args!("state: {} -> {}", change.previous, change.current));
        if change.current == State::Reconnecting {
            break;
        }
    }
    let products: Cache<String> = Cache::new(conn.clone(), "products");
    let chair = products.get_or_load("8", || async { Ok::<_, Infallible>("a chair".to_owned()) });
    let chair = chair.with_origin().await?;
    tour.say(format_args!("the cache asks the loader: {:?}, {:?}", chair.value, chair.origin));

    let quota = Quota::per_minute(NonZeroU32::MIN);
    let limiter = RateLimiter::new(conn.clone(), "outage", quota)?;
    let decision = limiter.consume("203.0.113.7").await?;
    if let Source::Policy(reason) = decision.source() {
        let allowed = decision.is_allowed();
        let reason = reason.source().unwrap_or(reason);
        tour.say(format_args!(
            "the limiter goes by its policy: allowed {allowed}, because {reason}"
        ));
    }

    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.increment("visits", 1).await }
    });
    tour.say("a counter is incremented; the call waits, unsent");
    server.restart()?;
    tour.say("the server is started again on the same port, empty");
    let visits = waiting.await??;
    tour.say(format_args!("the call ends well, and has counted once: {visits}"));

    let after = locks.try_lock("leader").await?.ok_or("nobody else is here")?;
    assert!(after.fence() > before, "{} after {before}", after.fence());
    tour.say("a lock of before is forgotten, but the fence of the next one is higher all the same");
    after.release().await?;
    tour.say(conn.health().await);
    Ok(())
}
