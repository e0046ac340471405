use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use super::{Arg, Call, FromReply, request::Request, script::Script};
use crate::{Conn, Error, ErrorKind, Replay};

/// How many values Lua is given as arguments of a function, and some more for safety.
const MOST_OWN: usize = 1024;

/// A Lua script of which one run serves many callers.
///
/// Calls that are made at the same time, with the same shared arguments and as many keys and arguments of their own, are
/// gathered, and one run of the script (`EVALSHA`) answers them all; a call that comes alone is a run of its own.
/// That spares the server and the client the better part of what a call costs, so it is for what is called often: a
/// limit, a counter, a token. On Cluster, calls are gathered for each slot, so give the keys of many callers a common
/// hash tag; a call without keys is not gathered there.
///
/// ```no_run
/// use redbrick_core_conn::{BatchScript, Conn, Error};
///
/// static HIT: BatchScript = BatchScript::new("page.hit", "
///     -- Runs once, and only reads.
///     local window = SHARED[1]
///     -- Runs for each caller, with its keys and then its arguments.
///     return function(page, hits)
///         local count = redis.call('INCRBY', page, hits)
///         if count == tonumber(hits) then redis.call('PEXPIRE', page, window) end
///         return count
///     end
/// ");
///
/// # async fn f(conn: Conn) -> Result<(), Error> {
/// let hits: i64 = conn.batch_script(&HIT).shared(60_000).key("hits:home").arg(1).run().await?;
/// # Ok(()) }
/// ```
///
/// # How it is written
///
/// The script returns a function, which is called for each caller, one after the other, with the caller's keys and then its
/// arguments. What the function returns is the caller's result, of any type that a [`Script`] may return. `SHARED` is a list of
/// the shared arguments, `KEYS` one of all callers' keys, and `COUNT` the number of callers; what the script does to these
/// lists changes nothing for the callers. Two callers may have the same
/// key: what was read before may have been changed by the caller before.
///
/// What stands before the function runs once, and **may only read**, which nothing checks: when it fails, or one of the
/// keys may not be touched, each caller's call is made once more by itself, so that an error reaches only those whose
/// keys or arguments cause it. Calls with these shared arguments then go by themselves for a thousand calls.
///
/// # What it costs
///
/// One round trip for all who are gathered: up to 256, with 64 KiB of keys and arguments, and two such runs at a time. Of more
/// than 16 callers, about half leave at a time, and no fewer than 16. While one runs, the server does nothing else, as with any
/// script.
///
/// # When it fails
///
/// An error of the function is that of its caller; the others have their results. What it did before stays, as with a
/// [`Script`]. When it is unknown whether the run took place, all its callers are told so, unless the script may be
/// repeated ([`replay`](Self::replay)). A script that returns no function fails with the code `NOFUNCTION`.
///
/// For a call that is dropped nothing is sent after that; what was sent before runs.
pub struct BatchScript(Script);

impl BatchScript {
    /// A script that is shown as `name` in traces: `crate.verb`.
    ///
    /// # Panics
    ///
    /// As [`Script::new`].
    #[must_use]
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self(Script::for_each(name, source))
    }

    /// Says when a call may be sent again. With [`Replay::Never`] it is never gathered with others: a batch that is refused for the sake of
    /// one of its calls is sent again in parts.
    ///
    /// Default: [`Replay::IfUnsent`].
    #[must_use]
    pub const fn replay(mut self, replay: Replay) -> Self {
        self.0.set_replay(replay);
        self
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.0.name()
    }
}

impl fmt::Debug for BatchScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchScript").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// One caller's part in a run of a batch script.
pub(crate) struct Each {
    pub(crate) script: &'static Script,
    pub(crate) shared: Vec<Bytes>,
    pub(crate) keys: Vec<Bytes>,
    pub(crate) args: Vec<Bytes>,
}

impl Each {
    /// The arguments of a run that serves `callers`, before theirs.
    fn lead(&self, callers: usize) -> Vec<Bytes> {
        let counts = [callers, self.shared.len()].map(|count| Bytes::from(count.to_string()));
        counts.into_iter().chain(self.shared.iter().cloned()).collect()
    }

    /// The keys and arguments of a run that serves this caller only.
    pub(super) fn alone(&self) -> (Vec<Bytes>, Vec<Bytes>) {
        let mut args = self.lead(1);
        args.extend(self.args.iter().cloned());
        (self.keys.clone(), args)
    }

    /// One run for several callers, who have everything in common but their keys and arguments; none for nobody.
    pub(crate) fn one_run(all: &[Arc<Self>]) -> Option<Request> {
        let first = all.first()?;
        let (script, mut args) = (first.script, first.lead(all.len()));
        args.extend(all.iter().flat_map(|each| &each.args).cloned());
        let keys = all.iter().flat_map(|each| &each.keys).cloned().collect();
        Some(Request::Run { script, keys, args })
    }
}

/// A call of a [`BatchScript`] that is being put together; see [`Conn::batch_script`].
#[must_use = "nothing runs until `run` is awaited"]
pub struct BatchScriptCall<'a> {
    conn: &'a Conn,
    each: Each,
    wrong: Option<Error>,
}

impl<'a> BatchScriptCall<'a> {
    /// Adds an argument to `SHARED`. Only calls whose shared arguments are the same are gathered, and none whose shared arguments
    /// have more than 4 KiB together.
    pub fn shared(mut self, arg: impl Into<Arg>) -> Self {
        self.each.shared.push(arg.into().into_bytes());
        self
    }

    /// Adds a key, behind the connection's prefix. On Cluster all keys of a call must lie in one slot.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.each.keys.push(self.conn.call_key(key));
        self
    }

    /// Adds an argument of this call's own.
    pub fn arg(mut self, arg: impl Into<Arg>) -> Self {
        self.each.args.push(arg.into().into_bytes());
        self
    }

    /// Adds a value as an argument of this call's own, encoded as [`Conn::set`] would.
    pub fn value<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match self.conn.codec().encode(value) {
            Ok(value) => self.each.args.push(value),
            Err(err) => self.wrong = self.wrong.or(Some(err)),
        }
        self
    }

    /// Runs it, together with the calls of other tasks or by itself, and reads what it returns for this call.
    ///
    /// # Errors
    ///
    /// As [`ScriptCall::run`](crate::ScriptCall::run); and [`ErrorKind::InvalidArgument`], before anything is sent, for more than
    /// 1,024 keys and arguments of this call's own.
    pub fn run<T: FromReply + Default>(self) -> Call<'a, T> {
        let Self { conn, each, mut wrong } = self;
        if each.keys.len() + each.args.len() > MOST_OWN {
            let what = "a call of a batch script takes up to 1,024 keys and arguments of its own; use `script` for more";
            wrong = wrong.or(Some(Error::new(ErrorKind::InvalidArgument, what)));
        }
        Call::reading(conn, wrong.map_or_else(|| Ok(Request::Each(Arc::new(each))), Err))
    }
}

impl fmt::Debug for BatchScriptCall<'_> {
    /// Shows neither keys nor arguments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let script = self.each.script.name();
        f.debug_struct("BatchScriptCall").field("script", &script).finish_non_exhaustive()
    }
}

impl Conn {
    /// Begins a call of `script`: add its keys and arguments, then [`run`](BatchScriptCall::run) it.
    pub fn batch_script(&self, script: &'static BatchScript) -> BatchScriptCall<'_> {
        let each =
            Each { script: &script.0, shared: Vec::new(), keys: Vec::new(), args: Vec::new() };
        BatchScriptCall { conn: self, each, wrong: None }
    }
}
