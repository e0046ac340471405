use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use redbrick_core_conn::{Conn, Registry};

use crate::{Error, Record, Resource};

/// The resources of an application, found by an alias and the type of their records.
///
/// An alias is that of a connection in a [`Registry`], so that a resource can have a database, or a server, of its own:
/// `redis-main`, `redis-orders`, or [`DEFAULT_ALIAS`](crate::DEFAULT_ALIAS). It is a value of the application's own; methods
/// block for no longer than it takes to look into a map.
///
/// ```no_run
/// # use std::{borrow::Cow, sync::Arc, time::Duration};
/// # use redbrick_core_conn::Registry;
/// # use redbrick_resource::{Record, Resource, Resources, DEFAULT_ALIAS};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct User { id: String }
/// # impl Record for User {
/// #     const NAME: &'static str = "users";
/// #     fn id(&self) -> Cow<'_, str> { Cow::Borrowed(&self.id) }
/// # }
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let conns = Arc::new(Registry::new());
/// conns.connect(DEFAULT_ALIAS, "redis://localhost/0").await?;
/// conns.connect("redis-users", "redis://localhost/1").await?;
///
/// let resources = Resources::new(conns);
/// resources.register_with("redis-users", |conn| {
///     Resource::<User>::builder(conn).time_to_live(Duration::from_secs(3600)).build()
/// })?;
/// let users = resources.get::<User>("redis-users").expect("its connection is there");
/// # Ok(()) }
/// ```
pub struct Resources {
    conns: Arc<Registry>,
    known: RwLock<HashMap<(TypeId, String), Known>>,
}

type Make = Arc<dyn Fn(Conn) -> Made + Send + Sync>;
type Made = Arc<dyn Any + Send + Sync>;

#[derive(Clone)]
enum Known {
    Make(Make),
    Made(Made),
}

impl Resources {
    /// Makes one for the connections of `conns`, with nothing in it.
    #[must_use]
    pub fn new(conns: Arc<Registry>) -> Self {
        Self { conns, known: RwLock::default() }
    }

    /// Keeps `resource` as `alias`, which need not be that of a connection.
    ///
    /// # Errors
    ///
    /// [`AliasTaken`](Error::AliasTaken) when there is one of that alias and type, or a constructor for it.
    pub fn insert<R: Record>(
        &self,
        alias: impl Into<String>,
        resource: Resource<R>,
    ) -> Result<(), Error> {
        self.keep::<R>(alias.into(), Known::Made(Arc::new(resource)))
    }

    /// Says how the resource for records of type `R` is made from the connection with this alias, when it is first asked
    /// for.
    ///
    /// Default: by [`Resource::new`].
    ///
    /// # Errors
    ///
    /// [`AliasTaken`](Error::AliasTaken) when there is one of that alias and type, or a constructor for it.
    pub fn register_with<R, F>(&self, alias: impl Into<String>, make: F) -> Result<(), Error>
    where
        R: Record,
        F: Fn(Conn) -> Resource<R> + Send + Sync + 'static,
    {
        let make: Make = Arc::new(move |conn| Arc::new(make(conn)) as Made);
        self.keep::<R>(alias.into(), Known::Make(make))
    }

    /// Returns the resource for records of type `R` with this alias. When there is none yet it is made, on the connection with
    /// this alias, and kept; without such a connection there is none.
    #[must_use]
    pub fn get<R: Record>(&self, alias: &str) -> Option<Resource<R>> {
        let key = (TypeId::of::<R>(), alias.to_owned());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let made = match known {
            Some(Known::Made(made)) => made,
            // Made without the lock, so that a constructor may look into this, or panic.
            Some(Known::Make(make)) => make(self.conns.get(alias)?),
            None => Arc::new(Resource::<R>::new(self.conns.get(alias)?)),
        };
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let kept = match all.get(&key) {
            // Somebody was faster.
            Some(Known::Made(first)) => Arc::clone(first),
            _ => {
                all.insert(key, Known::Made(Arc::clone(&made)));
                made
            }
        };
        kept.downcast_ref::<Resource<R>>().cloned()
    }

    /// Takes out the resource for records of type `R` with this alias, or how it is made. Its handles go on working.
    pub fn remove<R: Record>(&self, alias: &str) -> bool {
        let key = (TypeId::of::<R>(), alias.to_owned());
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&key).is_some()
    }

    /// Returns the registry of the connections.
    #[must_use]
    pub fn conns(&self) -> &Arc<Registry> {
        &self.conns
    }

    fn keep<R: Record>(&self, alias: String, known: Known) -> Result<(), Error> {
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let key = (TypeId::of::<R>(), alias);
        if all.contains_key(&key) {
            return Err(Error::AliasTaken);
        }
        all.insert(key, known);
        Ok(())
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Resources").field("known", &known).finish_non_exhaustive()
    }
}
