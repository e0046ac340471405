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
    cache::{Change, Local, Rules, Target, cached, invalidates},
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

    in_the_process(tour, conn, &products).await?;
    functions(tour, products).await
}

/// Values that are kept here, until the server says that they have changed.
async fn in_the_process(
    tour: &mut Tour,
    conn: &Conn,
    others: &Cache<String>,
) -> Result<(), Box<dyn Error>> {
    tour.step("cache: values in the process");
    let products: Cache<String> =
        Cache::builder(conn.clone(), "products").local(Local::new()).build()?;
    others.set("7", &"a lamp".to_owned()).await?;
    // The first read is from Redis, and so are others until the server says what changes.
    let mut reads = 0;
    while products.statistics().local_hits < 1000 {
        products.get("7").await?;
        reads += 1;
    }
    let here = products.statistics().local_hits;
    tour.say(format_args!(
        "{here} of {reads} reads asked nobody, or only whether it is still there"
    ));
    others.set("7", &"a brighter lamp".to_owned()).await?;
    let mut reads = 0;
    let lamp = loop {
        reads += 1;
        match products.get("7").await? {
            Some(lamp) if lamp != "a lamp" => break lamp,
            _ => tokio::task::yield_now().await,
        }
    };
    tour.say(format_args!("changed elsewhere: {reads} reads later it is {lamp:?}"));
    products.delete("7").await?;
    tour.say(format_args!("changed here: the next read finds {:?}", products.get("7").await?));
    Ok(())
}

/// A shop whose functions remember what they return.
struct Shop {
    products: Cache<String>,
    calls: AtomicU32,
}

impl Shop {
    #[cached(cache = self.products, key = "shelf:{shelf}:{page}", ttl = "1h", tags("shelf:{shelf}"))]
    async fn shelf(&self, shelf: &str, page: u32) -> Result<String, Infallible> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        a_slow_database().await;
        Ok(format!("page {page} of all {shelf}"))
    }

    #[invalidates(cache = self.products, tags("shelf:{shelf}"))]
    async fn add(&self, shelf: &str) -> Result<(), Infallible> {
        a_slow_database().await;
        Ok(())
    }
}

async fn functions(tour: &mut Tour, products: Cache<String>) -> Result<(), Box<dyn Error>> {
    tour.step("cache: functions that remember");
    let shop = Shop { products, calls: AtomicU32::new(0) };
    for _ in 0..3 {
        shop.shelf("lamps", 1).await?;
    }
    tour.say(format_args!("3 calls; the function ran {} time", shop.calls.load(Ordering::Relaxed)));
    shop.add("lamps").await?;
    let page = shop.shelf("lamps", 1).await?;
    tour.say(format_args!(
        "after one was added: {page:?}; it ran {} times",
        shop.calls.load(Ordering::Relaxed)
    ));
    Ok(())
}
