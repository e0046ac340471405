//! Functions whose results are remembered, and those that invalidate them.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_cache::{Cache, Error, cached, invalidates, warms};
use redbrick_core_conn::Ttl;
use redbrick_testkit::Server;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Gate, PATIENCE, connect, patient};

/// An error that nothing can be made of.
#[derive(Debug, PartialEq)]
enum Broken {
    Source(String),
    Cache(String),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Cache(error.to_string())
    }
}

struct Shop {
    names: Cache<String>,
    optional: Cache<Option<String>>,
    numbers: Cache<u64>,
    calls: AtomicU64,
}

/// Two parts of a key.
struct User {
    id: u64,
    group: String,
}

impl Shop {
    async fn new(test: &str) -> Self {
        let conn = connect(test).await;
        let (names, optional) = (patient(conn.clone()), patient(conn.clone()));
        Self { names, optional, numbers: patient(conn), calls: AtomicU64::new(0) }
    }

    fn called(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How often a function was called since.
    fn calls(&self) -> u64 {
        self.calls.swap(0, Ordering::SeqCst)
    }

    /// What a value is remembered for.
    #[cached(cache = self.names, key = "plain:{id}", ttl = "5m", tags("names", "name:{id}"))]
    async fn plain(&self, id: u64) -> String {
        format!("{id}, {}", self.called())
    }

    #[cached(cache = self.names, key = "result:{id}", ttl = Duration::from_secs(30), ignore(fails))]
    async fn result(&self, id: &str, fails: bool) -> Result<String, Broken> {
        let call = self.called();
        if fails {
            Err(Broken::Source(format!("{id}, {call}")))
        } else {
            Ok(format!("{id}, {call}"))
        }
    }

    #[cached(cache = &self.names, key = "option:{id}", ignore(is_there))]
    async fn option(&self, id: String, is_there: bool) -> Option<String> {
        let call = self.called();
        is_there.then(|| format!("{id}, {call}"))
    }

    #[cached(cache = self.names, key = "result of option:{id}", map_err = Broken::from, ignore(there))]
    async fn result_of_option(
        &self,
        id: u8,
        there: Option<bool>,
    ) -> Result<Option<String>, Broken> {
        let call = self.called();
        let there = there.ok_or_else(|| Broken::Source(format!("{id}, {call}")))?;
        Ok(there.then(|| format!("{id}, {call}")))
    }

    #[cached(cache = self.names, key = "row:{id}", tags("rows"), ignore(rows, gate))]
    async fn row(&self, id: u64, rows: &Mutex<Option<String>>, gate: &Gate) -> Option<String> {
        let row = rows.lock().unwrap().clone();
        if self.called() == 1 {
            gate.pass(id).await.unwrap();
        }
        row
    }

    #[cached(cache = self.names, key = "{id}", ttl = life, stale = life * 2, ignore(life), map_err = |_| Broken::Cache(id.to_string()))]
    async fn lives(&self, id: u64, life: Duration) -> Result<String, Broken> {
        Ok(format!("{id}, {}", self.called()))
    }

    #[cached(cache = self.names, key = "nothing")]
    async fn slowly_nothing(&self) -> Option<String> {
        self.called();
        crate::rest(Duration::from_millis(50)).await;
        None
    }

    #[cached(cache = self.optional, key = "also none:{id}", cache_none, ignore(is_there))]
    async fn also_none(&self, id: u8, is_there: bool) -> Option<String> {
        let call = self.called();
        is_there.then(|| format!("{id}, {call}"))
    }

    #[cached(cache = self.optional, key = "result, also none:{id}", cache_none, ignore(is_there))]
    async fn result_also_none(&self, id: u8, is_there: bool) -> Result<Option<String>, Broken> {
        let call = self.called();
        Ok(is_there.then(|| format!("{id}, {call}")))
    }

    #[cached(cache = self.names, key = "{user.id}:{user.group}:{shelf}", when = shelf != "none")]
    async fn of_user(&self, user: &User, shelf: &str) -> String {
        format!("{}, {shelf}, {}", user.group, self.called())
    }

    #[cached(cache = self.names, key = name_of(user, 7), stale = "1m", ttl = "30ms")]
    async fn by_function(&self, user: &User) -> String {
        format!("{}, {}", user.id, self.called())
    }

    #[cached(cache = cache, key = "generic:{N}:{id}", ignore(T, value))]
    async fn generic<T, const N: usize>(
        &self,
        cache: &Cache<Vec<T>>,
        id: impl fmt::Display + Clone + Send + Sync,
        value: T,
    ) -> Vec<T>
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.called();
        vec![value; N]
    }

    #[cached(cache = shop.names, key = "no self:{id}", in_impl)]
    async fn no_self(shop: &Self, id: u64) -> String {
        format!("{id}, {}", shop.called())
    }

    #[cached(cache = self.names, key = "shared:{id}")]
    async fn shared(self: Arc<Self>, id: u64) -> String {
        format!("{id}, {}", self.called())
    }

    #[warms(cache = self.names, key = "plain:{id}", tags("names", "name:{id}"))]
    async fn reload(&self, id: u64) -> Result<String, Broken> {
        Ok(format!("{id}, {}", self.called()))
    }

    #[invalidates(cache = self.names, keys("plain:{id}"))]
    async fn rename(&self, id: u64) {
        self.called();
    }

    #[invalidates(cache = self.names, tags("name:{id}"), keys(name_of(&user, 7), "result:{id}"), patterns("option:{id}*"))]
    async fn change(&mut self, id: String, user: User, fails: bool) -> Result<u64, Broken> {
        let call = self.called();
        if fails {
            return Err(Broken::Source(id + &user.group));
        }
        Ok(call)
    }

    #[invalidates(cache = self.names, tags("names"), before, when = id > 0)]
    #[invalidates(cache = self.numbers, tags("names"))]
    async fn before(&self, id: u64) -> Result<(), Broken> {
        Err(Broken::Source(id.to_string()))
    }
}

fn name_of(user: &User, number: u8) -> Vec<u8> {
    format!("{}{number}", user.group).into_bytes()
}

/// A function that stands in a module.
#[cached(cache = cache, key = "doubled:{number}")]
pub(crate) async fn doubled(cache: &Cache<u64>, number: u64) -> u64 {
    number * 2
}

#[tokio::test]
async fn a_value_is_remembered_for_each_list_of_arguments() {
    let shop = Shop::new("attributes_plain").await;
    for _ in 0..3 {
        assert_eq!(shop.plain(7).await, "7, 1");
    }
    assert_eq!(shop.plain(8).await, "8, 2");
    assert_eq!(shop.plain_uncached(7).await, "7, 3", "as it is written");
    assert_eq!(shop.names.get("plain:7").await.unwrap().as_deref(), Some("7, 1"));
    let left = shop.names.ttl("plain:7").await.unwrap();
    assert!(matches!(left, Ttl::Expires(left) if left <= Duration::from_secs(300)), "{left:?}");
    assert!(shop.names.invalidate_tag("name:7").await.unwrap());
    assert_eq!(shop.plain(7).await, "7, 4");
    assert_eq!(shop.plain(8).await, "8, 2");
    assert_eq!(doubled(&shop.numbers, 4).await, 8);
    assert_eq!(shop.numbers.get("doubled:4").await.unwrap(), Some(8));
}

#[tokio::test]
async fn of_a_result_only_ok_is_remembered() {
    let shop = Shop::new("attributes_result").await;
    for call in 1..3 {
        let failed = Err(Broken::Source(format!("a, {call}")));
        assert_eq!(shop.result("a", true).await, failed);
    }
    for _ in 0..2 {
        assert_eq!(shop.result("a", false).await, Ok("a, 3".to_owned()));
    }
    assert_eq!(shop.result("a", true).await, Ok("a, 3".to_owned()));
}

#[tokio::test]
async fn of_an_option_only_some_is_remembered_unless_it_is_said() {
    let shop = Shop::new("attributes_option").await;
    assert_eq!(shop.option("a".into(), false).await, None);
    assert_eq!(shop.option("a".into(), true).await.as_deref(), Some("a, 2"));
    assert_eq!(shop.option("a".into(), false).await.as_deref(), Some("a, 2"));
    assert_eq!(shop.names.statistics().load_failures, 0, "nothing is wrong with that");
    shop.calls();
    assert_eq!(shop.also_none(1, false).await, None);
    assert_eq!(shop.also_none(1, true).await, None);
    assert_eq!(shop.result_also_none(1, false).await, Ok(None));
    assert_eq!(shop.result_also_none(1, true).await, Ok(None));
    assert_eq!(shop.calls(), 2);
    let failed = Err(Broken::Source("1, 1".into()));
    assert_eq!(shop.result_of_option(1, None).await, failed);
    assert_eq!(shop.result_of_option(1, Some(false)).await, Ok(None));
    let found = Ok(Some("1, 3".to_owned()));
    assert_eq!(shop.result_of_option(1, Some(true)).await, found);
    assert_eq!(shop.result_of_option(1, None).await, found);
}

#[tokio::test]
async fn no_two_lists_of_arguments_share_a_key() {
    let shop = Shop::new("attributes_keys").await;
    let texts = ["a", "a:b", "b", "", ":", "a%3Ab", "*", "{a}", "ä", "a b", "none"];
    let mut calls = 0;
    for group in texts {
        for shelf in texts {
            let user = User { id: 1, group: group.to_owned() };
            let first = shop.of_user(&user, shelf).await;
            calls += 1;
            assert_eq!(first, format!("{group}, {shelf}, {calls}"));
            let second = shop.of_user(&user, shelf).await;
            if shelf == "none" {
                calls += 1;
                assert_ne!(first, second, "the cache is not asked");
            } else {
                assert_eq!(first, second);
            }
        }
    }
    let user = User { id: 1, group: "x/y".into() };
    shop.of_user(&user, "z").await;
    assert!(shop.names.exists("1:x%2Fy:z").await.unwrap());
}

#[tokio::test]
async fn settings_can_be_of_the_arguments() {
    let shop = Shop::new("attributes_settings").await;
    assert_eq!(shop.lives(7, Duration::from_secs(5)).await, Ok("7, 1".to_owned()));
    let left = shop.names.ttl("7").await.unwrap();
    assert!(matches!(left, Ttl::Expires(left) if left <= Duration::from_secs(5)), "{left:?}");
    assert_eq!(shop.lives(8, Duration::ZERO).await, Err(Broken::Cache("8".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_nothing_was_there_is_not_given_after_an_invalidation() {
    let shop = Arc::new(Shop::new("attributes_nothing").await);
    let (rows, gate) = (Arc::new(Mutex::new(None)), Arc::new(Gate::default()));
    let before = tokio::spawn({
        let (shop, rows, gate) = (Arc::clone(&shop), Arc::clone(&rows), Arc::clone(&gate));
        async move { shop.row(1, &rows, &gate).await }
    });
    gate.entered().await;
    *rows.lock().unwrap() = Some("it is there".to_owned());
    shop.names.invalidate_tag("rows").await.unwrap();
    let looking = Arc::clone(&shop);
    let (after, ()) = tokio::join!(shop.row(1, &rows, &gate), async {
        let has_looked = move || looking.names.statistics().misses == 2;
        crate::until("it has found nothing, and waits for the load", has_looked).await;
        gate.open();
    });
    assert_eq!(after.as_deref(), Some("it is there"));
    assert_eq!(before.await.unwrap(), None);
}

#[tokio::test]
async fn generics_and_all_kinds_of_self_work() {
    let shop = Arc::new(Shop::new("attributes_generics").await);
    let lists: Cache<Vec<String>> = shop.names.of();
    for _ in 0..2 {
        let list = shop.generic::<_, 3>(&lists, "x", "a".to_owned());
        assert_eq!(list.await, ["a", "a", "a"]);
    }
    for _ in 0..2 {
        assert_eq!(Shop::no_self(&shop, 7).await, "7, 2");
        assert_eq!(Arc::clone(&shop).shared(7).await, "7, 3");
    }
}

#[tokio::test]
async fn what_is_past_its_time_is_served_where_it_is_said() {
    let shop = Shop::new("attributes_stale").await;
    let user = User { id: 1, group: "a".into() };
    assert_eq!(shop.by_function(&user).await, "1, 1");
    let late = tokio::time::Instant::now() + PATIENCE;
    while shop.names.get("a7").await.unwrap().is_some() {
        assert!(tokio::time::Instant::now() < late);
    }
    // One of two calls has it anew, and the other one what is there.
    assert_eq!(shop.names.ttl("a7").await.unwrap(), Ttl::Expires(Duration::ZERO));
    let (one, two) = tokio::join!(shop.by_function(&user), shop.by_function(&user));
    let both = [one.as_str(), two.as_str()];
    assert!(both.contains(&"1, 1") && both.contains(&"1, 2"), "{both:?}");
}

#[tokio::test]
async fn what_is_warmed_is_loaded_in_any_case() {
    let shop = Shop::new("attributes_warms").await;
    assert_eq!(shop.reload(7).await, Ok("7, 1".to_owned()));
    assert_eq!(shop.plain(7).await, "7, 1");
    assert_eq!(shop.reload(7).await, Ok("7, 2".to_owned()));
    assert_eq!(shop.plain(7).await, "7, 2");
    assert!(shop.names.invalidate_tag("names").await.unwrap());
    assert_eq!(shop.plain(7).await, "7, 3");
}

#[tokio::test]
async fn what_a_function_changes_is_invalidated_after_it_and_only_after_ok() {
    let mut shop = Shop::new("attributes_invalidates").await;
    let user = || User { id: 7, group: "a".into() };
    shop.plain(7).await;
    shop.rename(7).await;
    assert!(!shop.names.exists("plain:7").await.unwrap());
    shop.plain(7).await;
    shop.result("7", false).await.unwrap();
    shop.option("7".into(), true).await;
    shop.names.set("a7", &"7, 4".to_owned()).await.unwrap();
    let keys = ["plain:7", "result:7", "option:7", "a7"];
    let there = async |shop: &Shop| {
        let found = shop.names.get_many(keys).await.unwrap();
        found.into_iter().filter(Option::is_some).count()
    };
    assert_eq!(there(&shop).await, 4);
    shop.change("7".into(), user(), true).await.unwrap_err();
    assert_eq!(there(&shop).await, 4);
    shop.change("7".into(), user(), false).await.unwrap();
    assert_eq!(there(&shop).await, 0);
    shop.plain(7).await;
    shop.before(0).await.unwrap_err();
    assert!(shop.names.exists("plain:7").await.unwrap(), "not for these arguments");
    shop.before(1).await.unwrap_err();
    assert!(!shop.names.exists("plain:7").await.unwrap(), "before it, whatever comes of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_the_function_is_called() {
    let server = Server::start().unwrap();
    let conn = redbrick_core_conn::Conn::connect(server.url()).await.unwrap();
    let conn = conn.with_command_timeout(Duration::from_millis(200));
    let failing = Cache::builder(conn.clone(), "names").on_error(redbrick_cache::OnError::Fail);
    let mut shop = Shop {
        names: failing.build().unwrap(),
        optional: Cache::new(conn.clone(), "optional"),
        numbers: Cache::new(conn, "numbers"),
        calls: AtomicU64::new(0),
    };
    server.kill().unwrap();
    assert_eq!(shop.plain(7).await, "7, 1");
    assert_eq!(shop.plain(7).await, "7, 2");
    assert_eq!(shop.also_none(7, true).await.as_deref(), Some("7, 3"));
    assert_eq!(shop.result("a", false).await, Ok("a, 4".to_owned()));
    assert_eq!(shop.result("a", true).await, Err(Broken::Source("a, 5".into())));
    let error = shop.result_of_option(1, Some(true)).await.unwrap_err();
    assert!(matches!(error, Broken::Cache(_)), "{error:?}");
    let user = User { id: 7, group: "a".into() };
    assert_eq!(shop.change("7".into(), user, false).await, Ok(6));
    assert!(shop.names.owed() > 0, "it is made up for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_call_shares_its_value_and_not_its_failure() {
    let shop = Arc::new(Shop::new("attributes_waits").await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let shop = Arc::clone(&shop);
        tasks.spawn(async move { shop.plain(7).await });
    }
    assert!(tasks.join_all().await.into_iter().all(|value| value == "7, 1"));
    shop.calls();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let shop = Arc::clone(&shop);
        tasks.spawn(async move { shop.slowly_nothing().await });
    }
    assert!(tasks.join_all().await.into_iter().all(|value| value.is_none()));
    assert!(shop.calls() < 50, "that there is nothing is shared too");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let shop = Arc::clone(&shop);
        tasks.spawn(async move { shop.result("a", true).await });
    }
    // Nobody is told of the failure of another one's call.
    let failed = tasks.join_all().await;
    assert!(failed.iter().all(|failed| matches!(failed, Err(Broken::Source(_)))), "{failed:?}");
}
