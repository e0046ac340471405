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
    Inserted(Made),
    Making(Making),
}

/// One that is made on the connection of its alias.
#[derive(Clone, Default)]
struct Making {
    /// How, if not as [`Resource::new`] does.
    make: Option<Make>,
    /// The last one, and what it was made on.
    last: Option<(Conn, Made)>,
}

impl Making {
    fn last_on(&self, conn: &Conn) -> Option<Made> {
        self.last.as_ref().filter(|(last, _)| last.is_same(conn)).map(|(_, made)| Arc::clone(made))
    }
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
        self.keep::<R>(alias.into(), Known::Inserted(Arc::new(resource)))
    }

    /// Says how the resource for records of type `R` is made from the connection with this alias, when it is first asked
    /// for, and when it is asked for after the registry has got another connection with this alias.
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
        self.keep::<R>(alias.into(), Known::Making(Making { make: Some(make), last: None }))
    }

    /// Returns the resource for records of type `R` with this alias. One that was not [inserted](Self::insert) is made on the
    /// connection that the registry has under this alias now, and kept as long as that is there; without such a connection
    /// there is none.
    #[must_use]
    pub fn get<R: Record>(&self, alias: &str) -> Option<Resource<R>> {
        let key = (TypeId::of::<R>(), alias.to_owned());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let making = match known {
            Some(Known::Inserted(resource)) => return resource.downcast_ref().cloned(),
            Some(Known::Making(making)) => making,
            None => Making::default(),
        };
        let Some(conn) = self.conns.get(alias) else {
            self.let_go(&key);
            return None;
        };
        let made = match (making.last_on(&conn), making.make) {
            (Some(made), _) => return made.downcast_ref().cloned(),
            // Made without the lock, so that a constructor may look into this, or panic.
            (None, Some(make)) => make(conn.clone()),
            (None, None) => Arc::new(Resource::<R>::new(conn.clone())),
        };
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let kept = match all.entry(key).or_insert_with(|| Known::Making(Making::default())) {
            // Somebody was faster.
            Known::Inserted(first) => Arc::clone(first),
            Known::Making(making) => making.last_on(&conn).unwrap_or_else(|| {
                making.last = Some((conn, Arc::clone(&made)));
                made
            }),
        };
        kept.downcast_ref().cloned()
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

    /// Keeps no connection that the registry has not.
    fn let_go(&self, key: &(TypeId, String)) {
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(key) {
            Some(Known::Making(making)) if making.make.is_some() => making.last = None,
            Some(Known::Making(_)) => drop(all.remove(key)),
            _ => {}
        }
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
