use std::{
    collections::BTreeMap,
    fmt,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{CloseReport, Config, Conn, Error, Result};

/// The name of a connection when an application has only one.
pub const DEFAULT_ALIAS: &str = "redis";

/// The named connections of an application: `redis`, `redis-orders`, …
///
/// It is a value of the application's own, to be kept in its state or in a static; redbrick has no hidden
/// global one. Methods block for no longer than it takes to look into a map.
#[derive(Default)]
pub struct Registry {
    conns: RwLock<BTreeMap<String, Conn>>,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub const fn new() -> Self {
        Self { conns: RwLock::new(BTreeMap::new()) }
    }

    /// Connects and keeps the connection as `alias`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when `alias` is taken, before and after connecting;
    /// otherwise as [`Conn::connect`]. The registry is as it was.
    pub async fn connect<C>(&self, alias: impl Into<String>, config: C) -> Result<Conn>
    where
        C: TryInto<Config>,
        Error: From<C::Error>,
    {
        let alias = alias.into();
        if self.get(&alias).is_some() {
            return Err(taken(&alias));
        }
        let conn = Conn::connect(config).await?;
        self.insert(alias, conn.clone())?;
        Ok(conn)
    }

    /// Keeps `conn` as `alias`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when `alias` is taken: `conn` is dropped.
    pub fn insert(&self, alias: impl Into<String>, conn: Conn) -> Result<()> {
        let alias = alias.into();
        let mut conns = self.conns.write().unwrap_or_else(PoisonError::into_inner);
        if conns.contains_key(&alias) {
            return Err(taken(&alias));
        }
        conns.insert(alias, conn);
        Ok(())
    }

    /// Returns the connection kept as `alias`.
    #[must_use]
    pub fn get(&self, alias: &str) -> Option<Conn> {
        self.conns.read().unwrap_or_else(PoisonError::into_inner).get(alias).cloned()
    }

    /// Returns the connection kept as [`DEFAULT_ALIAS`].
    #[must_use]
    pub fn default_conn(&self) -> Option<Conn> {
        self.get(DEFAULT_ALIAS)
    }

    /// Takes the connection kept as `alias` out, without closing it.
    pub fn remove(&self, alias: &str) -> Option<Conn> {
        self.conns.write().unwrap_or_else(PoisonError::into_inner).remove(alias)
    }

    /// Returns the aliases in use, sorted.
    #[must_use]
    pub fn aliases(&self) -> Vec<String> {
        self.conns.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Takes every connection out and closes them all at once, by one deadline; see [`Conn::close`].
    ///
    /// When the future is dropped, each connection is as after a dropped [`Conn::close`].
    pub async fn close(&self, deadline: Duration) -> BTreeMap<String, CloseReport> {
        let conns =
            std::mem::take(&mut *self.conns.write().unwrap_or_else(PoisonError::into_inner));
        let mut closing = JoinSet::new();
        for (alias, conn) in conns {
            closing.spawn(async move { (alias, conn.close(deadline).await) });
        }
        closing.join_all().await.into_iter().collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("aliases", &self.aliases()).finish()
    }
}

fn taken(alias: &str) -> Error {
    Error::config(format!("a connection named `{alias}` is already registered; remove it first"))
}
