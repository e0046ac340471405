use std::{marker::PhantomData, time::Duration};

use redbrick_core_conn::{Codec, Conn, Prefix, ReadFrom};

use crate::{Sessions, layout::Inner};

/// How long a session lives after its last touch, where nothing else is said: seven days.
pub const DEFAULT_TIME_TO_LIVE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The settings of [`Sessions`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct SessionsBuilder<D = ()> {
    conn: Conn,
    name: String,
    prefix: Prefix,
    time_to_live: Duration,
    absolute: Option<Duration>,
    data: PhantomData<fn() -> D>,
}

impl<D> SessionsBuilder<D> {
    pub(crate) fn new(conn: Conn) -> Self {
        Self {
            conn,
            name: String::new(),
            prefix: Prefix::new("session"),
            time_to_live: DEFAULT_TIME_TO_LIVE,
            absolute: None,
            data: PhantomData,
        }
    }

    /// Keeps these sessions apart from others on the same server: keys begin with `session:name`.
    ///
    /// Default: they begin with `session`.
    pub fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.name = String::from_utf8_lossy(name.as_ref()).into_owned();
        self.prefix = Prefix::new("session").join(name);
        self
    }

    /// Sets how long a session lives after its last [touch](Sessions::touch), unless its creation says otherwise: from a
    /// millisecond to a hundred years; what is less or more counts as that. A session keeps what it was created with.
    ///
    /// Default: [`DEFAULT_TIME_TO_LIVE`], seven days.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// Sets how long after its creation a session ends however often it is touched or extended, within the same bounds. A
    /// session keeps what it was created with.
    ///
    /// Default: none.
    pub fn absolute_time_to_live(mut self, absolute: impl Into<Option<Duration>>) -> Self {
        self.absolute = absolute.into();
        self
    }

    /// Makes them; sends nothing.
    #[must_use]
    pub fn build(self) -> Sessions<D> {
        let plain = self.conn.with_codec(Codec::Plain).with_read_from(ReadFrom::Master);
        Sessions::from_inner(Inner {
            conn: self.conn,
            plain,
            name: self.name,
            prefix: self.prefix,
            time_to_live: self.time_to_live,
            absolute: self.absolute,
        })
    }
}
