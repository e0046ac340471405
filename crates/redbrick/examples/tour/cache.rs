//! Cached values.

use std::{
    convert::Infallible,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use redbrick::{
    cache::{Change, Rules, Target},
    prelude::*,
};

use tokio::task::JoinSet;

use crate::steps::{Tour, a_slow_database};

pub(crate) async fn walk(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("cache: one load for a hundred callers");
    let products: Cache<String> = Cache::new(conn.clone(), "products");
    let loads = Arc::new(AtomicU32::new(0));
    let slow = {
        let loads = Arc::clone(&loads);
        move || async move {
            loads.fetch_add(1, Ordering::Relaxed);
            a_slow_database().await;
            Ok::<_, Infallible>("a lamp".to_owned())
        }
    };
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (products, slow) = (products.clone(), slow.clone());
        callers.spawn(async move { products.get_or_load("7", slow).tags(["lamps"]).await });
    }
    let mut lamp = String::new();
    while let Some(caller) = callers.join_next().await {
        lamp = caller??;
    }
    tour.say(format_args!("100 callers have {lamp:?}; the loader ran {loads:?} time"));
    let again = products.get_or_load("7", slow).with_origin().await?;
    tour.say(format_args!("the next one: {:?}", again.origin));

    products.invalidate_tag("lamps").await?;
    tour.say(format_args!("all lamps invalidated by one command: {:?}", products.get("7").await?));

    // While the value is loaded, it is changed: what was loaded before that must not be stored.
    let racing = products.get_or_load("7", || async {
        products.delete("7").await.map(|_| "the price of yesterday".to_owned())
    });
    let old = racing.await?;
    tour.say(format_args!(
        "loaded {old:?} during a change; stored: {:?}",
        products.get("7").await?
    ));

    // Many at once: one read, one load for those that are missing, one write.
    let loads = AtomicU32::new(0);
    let many = products.get_or_load_many(["7", "8", "9"], async |missing| {
        loads.fetch_add(1, Ordering::Relaxed);
        a_slow_database().await;
        Ok::<_, Infallible>(missing.into_iter().map(|id| (id, format!("product {id}"))).collect())
    });
    let found = many.tags(["lamps"]).await?.into_iter().flatten().count();
    tour.say(format_args!("{found} products at once; the loader ran {loads:?} time"));

    let rules = Rules::builder()
        .on("product", Change::Update, [Target::key("{id}"), Target::pattern("list:*")])
        .build()?;
    products.set_many([("7", &lamp), ("list:1", &lamp), ("list:2", &lamp)]).await?;
    let applied = products.apply(&rules, "product", Change::Update, &[("id", "7")]).await?;
    let (deleted, cleared) = (applied.deleted, applied.cleared);
    tour.say(format_args!("rules as data: {deleted} by key, {cleared} by pattern"));
    tour.say(format_args!("hit rate {:.2?}", products.statistics().hit_rate()));
    Ok(())
}
