use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use redbrick_core_conn::{Arg, Script};
use serde::Serialize;
use tracing::Instrument;

use crate::{
    Device, Error, Session, SessionId, Sessions,
    id::Partition,
    layout::millis,
    record::{self, time},
    sessions::CREATED,
};

impl<D: Serialize> Sessions<D> {
    /// Begins a session of `user`, which the application has just authenticated: say more of it, then await it.
    ///
    /// Its id is new, whatever the client came with; call this at every login, and delete the session that was there before.
    /// `user` is what the application knows its user by, and nothing that it may not write to Redis.
    ///
    /// ```no_run
    /// # use redbrick_session::{Device, Error, Sessions};
    /// # async fn login(sessions: Sessions, user_agent: &str) -> Result<(), Error> {
    /// let device = Device::new().user_agent(user_agent);
    /// let session = sessions.create("ada", ()).device(device).role("editor").await?;
    /// println!("Set-Cookie: __Host-id={}; Path=/; Secure; HttpOnly; SameSite=Lax", session.id().expose());
    /// # Ok(()) }
    /// ```
    ///
    /// One round trip, never repeated once it may have happened.
    ///
    /// # Errors
    ///
    /// [`Error::Data`], before anything is sent; [`Error::IdTaken`] and [`Error::Damaged`], after which there is no new
    /// session; [`Error::Conn`]. When [the outcome is unknown](Error::is_outcome_unknown), and when the future is
    /// dropped midway, there may be a session whose id nobody knows: it can be seen in [`list`](Self::list), deleted by its
    /// key, and expires unused.
    pub fn create<'a>(&'a self, user: &'a str, data: D) -> Create<'a, D> {
        Create {
            sessions: self,
            user,
            data,
            time_to_live: self.inner.time_to_live,
            device: Device::new(),
            role: None,
            email: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// A session that is about to begin; see [`Sessions::create`].
#[must_use = "no session begins until it is awaited"]
pub struct Create<'a, D = ()> {
    sessions: &'a Sessions<D>,
    user: &'a str,
    data: D,
    time_to_live: Duration,
    device: Device,
    role: Option<String>,
    email: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl<D> Create<'_, D> {
    /// Sets how long this session lives after its last touch, within the bounds of
    /// [`SessionsBuilder::time_to_live`](crate::SessionsBuilder::time_to_live).
    ///
    /// Default: that of the builder.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// Sets what it begins from.
    ///
    /// Default: unknown.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets the role that its user has in it.
    ///
    /// Default: none.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    /// Sets the e-mail address of its user, which is not checked.
    ///
    /// Default: none.
    pub fn email(mut self, email: impl Into<String>) -> Self {
        self.email = Some(email.into());
        self
    }

    /// Adds fields that can be changed one by one with [`update_metadata`](Sessions::update_metadata).
    ///
    /// Default: none.
    pub fn metadata<K: Into<String>, V: Into<String>>(
        mut self,
        metadata: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.metadata.extend(metadata.into_iter().map(|(key, value)| (key.into(), value.into())));
        self
    }
}

impl<D: Serialize> Create<'_, D> {
    async fn run(self) -> Result<Session<D>, Error> {
        let id = SessionId::random(Partition::of(self.user));
        self.run_with(id).await
    }

    async fn run_with(self, id: SessionId) -> Result<Session<D>, Error> {
        let Self { sessions, user, data, time_to_live, device, role, email, metadata } = self;
        let inner = &sessions.inner;
        let encoded: Arg = inner.conn.codec().encode(&data).map_err(Error::Data)?.into();
        let call = sessions.on(&CREATE, &id).arg(user).arg(millis(time_to_live));
        let mut call = call.arg(inner.absolute.map_or(0, millis)).arg(record::DATA).arg(encoded);
        for (field, value) in record::optional(&device, &role, &email, &metadata) {
            call = call.arg(field).arg(value);
        }
        let made: Option<(u64, u64)> = call.run().needs_server().await.map_err(Error::of)?;
        let (created, ends) = made.ok_or(Error::IdTaken)?;
        CREATED.add(1, &inner.name);
        Ok(Session {
            id,
            user: user.to_owned(),
            created_at: time(created),
            last_seen: time(created),
            expires_at: time(ends),
            version: 1,
            device,
            role,
            email,
            metadata,
            data,
        })
    }
}

impl<'a, D: Serialize + Send + 'a> IntoFuture for Create<'a, D> {
    type Output = Result<Session<D>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run().instrument(tracing::debug_span!("session.create")))
    }
}

impl<D> fmt::Debug for Create<'_, D> {
    /// Shows nothing of a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Create");
        out.field("time_to_live", &self.time_to_live).finish_non_exhaustive()
    }
}

static CREATE: Script = Script::new("session.create", include_str!("lua/create.lua"));

#[cfg(test)]
mod tests {
    use redbrick_core_conn::{Config, Conn};
    use redbrick_testkit::Server;

    use super::*;

    async fn connect(server: &Server) -> Sessions<u8> {
        let config = Config::builder().url(server.url());
        Sessions::new(Conn::connect(config).await.unwrap())
    }

    #[tokio::test]
    async fn an_id_that_is_taken_is_not_taken_over() {
        let server = Server::start().unwrap();
        let sessions = connect(&server).await;
        let id = SessionId::random(Partition::of("ada"));
        let first = sessions.create("ada", 1).role("first").run_with(id).await.unwrap();
        assert_eq!(first.id(), &id);

        let err = sessions.create("ada", 2).role("second").run_with(id).await.unwrap_err();

        assert!(matches!(err, Error::IdTaken), "{err:?}");
        assert!(!err.is_retryable() && !err.is_outcome_unknown() && !err.is_timeout());
        let found = sessions.get(&id).await.unwrap().unwrap();
        assert_eq!((found.data, found.role.as_deref()), (1, Some("first")));
        assert_eq!(sessions.count("ada").await.unwrap(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_several_that_take_one_id_at_once_one_has_it() {
        let server = Server::start().unwrap();
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(connect(&server).await);
        }
        for _ in 0..200 {
            let id = SessionId::random(Partition::of("ada"));
            let mut tasks = tokio::task::JoinSet::new();
            for (number, sessions) in (0..).zip(&all) {
                let sessions = sessions.clone();
                tasks.spawn(async move {
                    let role = format!("role {number}");
                    let created = sessions.create("ada", number).role(role).run_with(id).await;
                    match created {
                        Ok(session) => Some(session.data),
                        Err(Error::IdTaken) => None,
                        Err(err) => panic!("{err:?}"),
                    }
                });
            }
            let made: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
            let [number] = made[..] else { panic!("{made:?} have it") };
            let found = all[0].get(&id).await.unwrap().unwrap();
            assert_eq!((found.data, found.role), (number, Some(format!("role {number}"))));
        }
    }
}
