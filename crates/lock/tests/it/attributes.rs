//! Functions that run under a lock.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redbrick_lock::{Error, Locks, NotHeld, Wait, locked};
use tokio::{
    sync::{Barrier, oneshot},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{LONG, PATIENCE, acquired, free, locks, locks_on, server, until};

/// An error that nothing can be made of.
#[derive(Debug)]
enum Broken {
    Source(u64),
    Lock(NotHeld),
    Mapped(NotHeld),
}

impl From<NotHeld> for Broken {
    fn from(error: NotHeld) -> Self {
        Self::Lock(error)
    }
}

impl Broken {
    fn is_busy(&self) -> bool {
        matches!(self, Self::Lock(NotHeld::Busy))
    }

    fn is_lost(&self) -> bool {
        matches!(self, Self::Lock(NotHeld::Failed(Error::Lost)))
    }
}

struct Shop {
    locks: Locks,
    calls: AtomicU32,
    inside: AtomicU32,
    both: Barrier,
    names: Vec<String>,
}

impl Shop {
    async fn new(test: &str) -> Self {
        Self::of(locks(test).await)
    }

    fn of(locks: Locks) -> Self {
        let (calls, inside) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { locks, calls, inside, both: Barrier::new(2), names: Vec::new() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    /// It gives others the time to come in as well, and returns how many are in.
    #[locked(locks = self.locks, key = "inventory:{id}", wait = "forever")]
    async fn reserve(&self, id: u64) -> Result<u32, Broken> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(self.locks.is_locked(format!("inventory:{id}")).await.unwrap());
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(inside)
    }

    /// It ends when two are in.
    #[locked(locks = self.locks, key = "pair:{id}", wait = "never")]
    async fn pair(&self, id: u64) -> Result<u64, Broken> {
        self.both.wait().await;
        Ok(id)
    }

    #[locked(locks = self.locks, key = "job", wait = "forever")]
    async fn ends(&self, how: Option<bool>) -> Result<u64, Broken> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        assert!(self.locks.is_locked("job").await.unwrap());
        let fails = how.expect("to be told");
        let ended: u64 = if fails { Err(Broken::Source(7))? } else { 7 };
        Ok(ended + 1)
    }

    #[locked(locks = self.locks, key = "job", wait = "never")]
    async fn at_once(&self) -> Result<u32, Broken> {
        Ok(self.calls.fetch_add(1, Ordering::SeqCst))
    }

    #[locked(locks = self.locks, key = "job", wait = "100ms")]
    async fn soon(&self) -> Result<u32, Broken> {
        Ok(self.calls.fetch_add(1, Ordering::SeqCst))
    }

    #[locked(locks = self.locks, key = "job", wait = wait)]
    async fn within(&self, wait: Duration) -> Result<u32, Broken> {
        Ok(self.calls.fetch_add(1, Ordering::SeqCst))
    }

    #[locked(locks = self.locks, key = "job", wait = wait)]
    async fn by(&self, wait: Wait) -> Result<u32, Broken> {
        Ok(self.calls.fetch_add(1, Ordering::SeqCst))
    }

    #[locked(locks = self.locks, key = "job")]
    async fn as_its_locks_do(&self) -> Result<u32, Broken> {
        Ok(self.calls.fetch_add(1, Ordering::SeqCst))
    }

    #[locked(locks = self.locks, key = "job", ttl = "2s")]
    async fn for_two_seconds(&self) -> Result<Duration, Broken> {
        Ok(self.locks.info("job").await.unwrap().unwrap().remaining)
    }

    #[locked(locks = self.locks, key = "job", ttl = life, map_err = |_| Broken::Source(life.as_secs()))]
    async fn lives(&self, life: Duration) -> Result<Duration, Broken> {
        Ok(self.locks.info("job").await.unwrap().unwrap().remaining)
    }

    #[locked(locks = self.locks, key = "job", wait = "never", map_err = Broken::Mapped)]
    async fn maps(&self, fails: bool) -> Result<(), Broken> {
        if fails { Err(Broken::Source(9)) } else { Ok(()) }
    }

    /// It returns the fence that it sees, and the one that others do.
    #[locked(locks = self.locks, key = "job", fence = number)]
    async fn numbered(&self) -> Result<(u64, u64), Broken> {
        Ok((number, self.locks.info("job").await.unwrap().unwrap().fence))
    }

    #[locked(locks = self.locks, key = "{group}:{shelf}", wait = "never")]
    async fn on_shelf(&self, group: &str, shelf: &str) -> Result<(), Broken> {
        Ok(())
    }

    /// It runs beside all the others.
    #[locked(locks = self.locks, key = "{group}:{shelf}", wait = "never")]
    async fn beside(
        &self,
        group: &str,
        shelf: &str,
        others: &[(&str, &str)],
    ) -> Result<(), Broken> {
        for (group, shelf) in others {
            self.on_shelf(group, shelf).await?;
        }
        Ok(())
    }

    #[locked(locks = self.locks, key = "{{{group}}}/{shelf.trim()}")]
    async fn called(&self, group: u64, shelf: &str) -> Result<String, Broken> {
        Ok(self.locks.list().await.unwrap().remove(0).name_text().into_owned())
    }

    #[locked(locks = self.locks, key = bytes)]
    async fn of_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        Ok(self.locks.list().await.unwrap().remove(0).name)
    }

    #[locked(locks = self.locks, key = "job", ttl = "1s", wait = "never")]
    async fn never_ends(&self, alive: oneshot::Sender<()>) -> Result<(), Broken> {
        let _alive = alive;
        std::future::pending().await
    }

    #[locked(locks = self.locks, key = "renamed", fence = fence)]
    async fn rename(&mut self, mut name: String, more: &mut Vec<String>) -> Result<usize, NotHeld> {
        name.push('!');
        self.names.push(name);
        self.names.append(more);
        more.push(fence.to_string());
        Ok(self.names.len())
    }

    #[locked(locks = self.locks, key = "first")]
    async fn first<'a>(&'a self, otherwise: &'a str) -> Result<&'a str, NotHeld> {
        Ok(self.names.first().map_or(otherwise, String::as_str))
    }

    #[locked(locks = self.locks, key = "closed")]
    async fn close(mut self) -> Result<Vec<String>, NotHeld> {
        self.names.push("closed".to_owned());
        Ok(self.names)
    }

    #[locked(locks = self.locks, key = "shared:{id}")]
    async fn shared(self: Arc<Self>, id: impl Display) -> Result<bool, NotHeld> {
        Ok(self.locks.is_locked(format!("shared:{id}")).await?)
    }

    #[locked(locks = shop.locks, key = "generic:{N}:{value}")]
    async fn generic<T, const N: usize>(shop: &Self, value: T) -> Result<[T; N], NotHeld>
    where
        T: Clone + Display,
    {
        assert!(shop.locks.is_locked(format!("generic:{N}:{value}")).await?);
        Ok(std::array::from_fn(|_| value.clone()))
    }
}

trait Counts {
    async fn count(&self, name: &str) -> Result<Option<usize>, NotHeld>;
}

impl Counts for Shop {
    #[locked(locks = &self.locks, key = "count:{name}")]
    async fn count(&self, name: &str) -> Result<Option<usize>, NotHeld> {
        Ok(self.names.iter().position(|it| it == name))
    }
}

/// A function that stands in a module.
#[locked(locks = locks, key = "doubled:{number}")]
pub(crate) async fn doubled(locks: &Locks, number: u64) -> Result<u64, NotHeld> {
    assert!(locks.is_locked(format!("doubled:{number}")).await?);
    Ok(number * 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_runs_and_other_arguments_run_beside_it() {
    let shop = Arc::new(Shop::new("attributes-one").await);
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let shop = Arc::clone(&shop);
        tasks.spawn(async move { shop.reserve(7).await.unwrap() });
    }
    assert!(tasks.join_all().await.into_iter().all(|inside| inside == 1));

    let pair = timeout(PATIENCE, async { tokio::try_join!(shop.pair(1), shop.pair(2)) });
    assert_eq!(pair.await.expect("both are in at once").unwrap(), (1, 2));
}

#[tokio::test]
async fn the_lock_is_released_however_the_function_ends() {
    let shop = Arc::new(Shop::new("attributes-ends").await);
    assert!(matches!(shop.ends(Some(false)).await, Ok(8)));
    assert!(!shop.locks.is_locked("job").await.unwrap(), "the release was waited for");
    assert!(matches!(shop.ends(Some(true)).await, Err(Broken::Source(7))), "as it is");
    assert!(!shop.locks.is_locked("job").await.unwrap(), "the release was waited for");
    let panics = tokio::spawn({
        let shop = Arc::clone(&shop);
        async move { shop.ends(None).await }
    });
    assert!(panics.await.unwrap_err().is_panic());
    free(&shop.locks, "job").await;
    assert_eq!(shop.calls(), 3);

    let (alive, _dropped) = oneshot::channel();
    let given_up = timeout(Duration::from_millis(100), shop.never_ends(alive)).await;
    assert!(given_up.is_err());
    free(&shop.locks, "job").await;
}

#[tokio::test]
async fn a_function_whose_lock_somebody_else_has_is_not_called() {
    let shop = Shop::new("attributes-busy").await;
    let guard = acquired(&shop.locks, "job", LONG).await;
    let limit = Duration::from_millis(100);
    assert!(shop.at_once().await.unwrap_err().is_busy());
    assert!(shop.by(Wait::Never).await.unwrap_err().is_busy());
    for waits in [true, false] {
        let began = Instant::now();
        let error = if waits { shop.soon().await } else { shop.within(limit).await };
        assert!(error.unwrap_err().is_busy());
        assert!(began.elapsed() >= limit);
    }
    assert_eq!(shop.calls(), 0);
    guard.release().await.unwrap();
    assert_eq!(shop.at_once().await.unwrap(), 0);
    assert_eq!(shop.as_its_locks_do().await.unwrap(), 1);
}

#[tokio::test]
async fn it_asks_once_or_as_often_as_its_locks_are_told() {
    let server = server();
    let shop = Shop::of(locks_on(server.url()).await);
    let _guard = acquired(&shop.locks, "job", LONG).await;
    let cost = server.cost(async { drop(shop.at_once().await.unwrap_err()) }).await.unwrap();
    assert_eq!(cost, "evalsha 1, get 1, time 1");
    let cost =
        server.cost(async { drop(shop.as_its_locks_do().await.unwrap_err()) }).await.unwrap();
    assert_eq!(cost, "evalsha 3, get 3, time 3");
}

#[tokio::test]
async fn who_waits_is_called_when_the_lock_is_released() {
    let shop = Arc::new(Shop::new("attributes-waits").await);
    let guard = acquired(&shop.locks, "job", LONG).await;
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let shop = Arc::clone(&shop);
        async move { shop.ends(Some(false)).await.map(drop) }
    });
    for wait in [Wait::Forever, Wait::For(PATIENCE)] {
        let shop = Arc::clone(&shop);
        tasks.spawn(async move { shop.by(wait).await.map(drop) });
    }
    tasks.spawn({
        let shop = Arc::clone(&shop);
        async move { shop.within(PATIENCE).await.map(drop) }
    });
    let waiting = async || shop.locks.info("job").await.unwrap().unwrap().waiting;
    until("they stand in line", async || waiting().await == 4).await;
    assert_eq!(shop.calls(), 0);
    guard.release().await.unwrap();
    let all = timeout(PATIENCE, tasks.join_all()).await.expect("their turn");
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(shop.calls(), 4);
}

#[tokio::test]
async fn the_lease_is_the_one_that_is_said() {
    let shop = Shop::new("attributes-lease").await;
    let second = Duration::from_secs(1);
    let left = shop.for_two_seconds().await.unwrap();
    assert!(left > second / 10 && left <= second * 2, "{left:?}");
    let left = shop.lives(second * 90).await.unwrap();
    assert!(left > second * 60 && left <= second * 90, "{left:?}");
    let none = shop.lives(Duration::ZERO).await;
    assert!(matches!(none, Err(Broken::Source(0))), "it is mapped with the arguments at hand");
}

#[tokio::test]
async fn the_body_sees_the_fence_and_it_rises() {
    let shop = Shop::new("attributes-fence").await;
    let mut last = 0;
    for _ in 0..3 {
        let (seen, is) = shop.numbered().await.unwrap();
        assert_eq!(seen, is);
        assert!(seen > last);
        last = seen;
    }
}

#[tokio::test]
async fn no_two_lists_of_arguments_share_a_lock() {
    let shop = Shop::new("attributes-keys").await;
    let texts = ["a", "a:b", "b", "", ":", "a%3Ab"];
    let all: Vec<_> =
        texts.iter().flat_map(|group| texts.iter().map(|shelf| (*group, *shelf))).collect();
    for (n, (group, shelf)) in all.iter().copied().enumerate() {
        let mut others = all.clone();
        others.remove(n);
        shop.beside(group, shelf, &others).await.unwrap();
        let same = shop.beside(group, shelf, &[(group, shelf)]).await;
        assert!(same.unwrap_err().is_busy());
    }
    assert_eq!(shop.called(7, " x/ä-_.~@+ ").await.unwrap(), "{7}/x%2F%C3%A4-_.~@+");
    assert_eq!(shop.of_bytes(b"\xFF:{a}\0").await.unwrap(), b"\xFF:{a}\0", "as they are");
}

#[tokio::test]
async fn errors_of_the_lock_are_mapped_where_it_is_said() {
    let shop = Shop::new("attributes-maps").await;
    shop.maps(false).await.unwrap();
    assert!(matches!(shop.maps(true).await, Err(Broken::Source(9))), "those of the body are not");
    let _guard = acquired(&shop.locks, "job", LONG).await;
    assert!(matches!(shop.maps(false).await, Err(Broken::Mapped(NotHeld::Busy))));
}

#[tokio::test]
async fn a_function_that_loses_its_lock_is_stopped() {
    let shop = Arc::new(Shop::new("attributes-lost").await);
    let (alive, dropped) = oneshot::channel();
    let work = tokio::spawn({
        let shop = Arc::clone(&shop);
        async move { shop.never_ends(alive).await }
    });
    until("it is held", async || shop.locks.is_locked("job").await.unwrap()).await;
    assert!(shop.locks.force_release("job").await.unwrap());
    let error = timeout(PATIENCE, work).await.expect("at the next renewal").unwrap().unwrap_err();
    assert!(error.is_lost(), "{error:?}");
    dropped.await.expect_err("what it had was dropped");
}

#[tokio::test]
async fn generics_and_all_kinds_of_self_work() {
    let mut shop = Shop::new("attributes-generics").await;
    assert_eq!(doubled(&shop.locks, 4).await.unwrap(), 8);
    assert_eq!(shop.first("none").await.unwrap(), "none");
    let mut more = vec!["b".to_owned()];
    assert_eq!(shop.rename("a".to_owned(), &mut more).await.unwrap(), 2);
    assert!(more[0].parse::<u64>().unwrap() > 0);
    assert_eq!(shop.first("none").await.unwrap(), "a!");
    assert_eq!(shop.count("b").await.unwrap(), Some(1));
    assert_eq!(shop.count("c").await.unwrap(), None);
    assert_eq!(Shop::generic::<_, 2>(&shop, 'x').await.unwrap(), ['x', 'x']);
    let shop = Arc::new(shop);
    assert!(Arc::clone(&shop).shared(7).await.unwrap());
    let shop = Arc::into_inner(shop).expect("nobody else has it");
    assert_eq!(shop.close().await.unwrap(), ["a!", "b", "closed"]);
}

#[tokio::test]
async fn without_redis_the_function_is_not_called() {
    let server = server();
    let shop = Shop::of(locks_on(server.url()).await);
    assert_eq!(shop.at_once().await.unwrap(), 0);
    server.kill().unwrap();
    let error = shop.at_once().await.unwrap_err();
    let Broken::Lock(error) = error else { panic!("{error:?}") };
    assert!(matches!(error, NotHeld::Failed(Error::Conn(_))), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(shop.calls(), 1);
}
