use std::{fmt, sync::OnceLock};

use bytes::Bytes;
use serde::Serialize;

use super::{Arg, Call, FromReply, around::Form, request::Request};
use crate::{Conn, Error, Replay};

/// What every [`Request::Nested`] goes through.
pub(crate) static READ: Script = Script::new("core_conn.read", include_str!("../lua/read.lua"))
    .native()
    .replay(Replay::Idempotent);

/// A Lua script with a name.
///
/// It runs on the server, atomically, in one round trip (`EVALSHA`; where the server does not know it yet one more,
/// `EVAL`). Make it a `static`, so that its digest is computed once, and call it with [`Conn::script`].
///
/// ```no_run
/// use redbrick_core_conn::{Conn, Error, Script};
///
/// static TAKE: Script = Script::new("stock.take", "
///     local left = tonumber(redis.call('GET', KEYS[1]) or 0)
///     if left < tonumber(ARGV[1]) then return {0, left} end
///     return {1, redis.call('DECRBY', KEYS[1], ARGV[1])}
/// ");
///
/// # async fn f(conn: Conn) -> Result<(), Error> {
/// let (taken, left): (bool, i64) = conn.script(&TAKE).key("stock:7").arg(3).run().await?;
/// # Ok(()) }
/// ```
///
/// # What it returns
///
/// Anything, and no `#!` line: core-conn puts a function around the script, and a number before the lists that it returns,
/// so that none, whatever users have stored, is taken for a message. See [`FromReply`] for the types. What lies deeper
/// than 128 lists is an error in its place. In the text of an error inside a list, what is not ASCII comes as `?`.
///
/// # What it costs
///
/// The client library underneath flushes its socket after every script call: a link carries about as many script
/// calls as the machine does system calls, while plain commands of many tasks share them. Where a plain command does
/// the job, it is the better choice; for a script that many tasks call there is [`BatchScript`](crate::BatchScript);
/// [`command_links`](crate::ConfigBuilder::command_links) spreads scripts over several sockets. `cargo xtask bench scripts` prints the ratios.
///
/// # When it fails
///
/// An error that a command inside raises ends the script; what it did before stays. The error's
/// [`code`](Error::code) is that command's, as `WRONGTYPE`. A script that ends with an error of its own gives it a code
/// that is the same on all servers by `return redis.error_reply('-MYCODE what happened')`, dash included; one that it raises by `error('text')` has none. Neither should begin with what is stored.
pub struct Script {
    name: &'static str,
    source: &'static str,
    replay: Replay,
    form: Form,
    ready: OnceLock<Ready>,
}

struct Ready {
    digest: Bytes,
    text: Bytes,
}

impl Script {
    /// A script that is shown as `name` in traces: `crate.verb`.
    ///
    /// # Panics
    ///
    /// Panics, in a `static` while compiling, when `source` begins with a `#!` line or is not ASCII, escapes as `\233`
    /// included: the server may quote it in an error, which must be. Give other bytes as arguments, or by `string.char`.
    #[must_use]
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        assert!(is_ascii(source.as_bytes()), "a script is ASCII, escapes as `\\233` included");
        assert!(!matches!(source.as_bytes(), [b'#', ..]), "a script has no `#!` line");
        Self { name, source, replay: Replay::IfUnsent, form: Form::Whole, ready: OnceLock::new() }
    }

    /// That of a [`BatchScript`](crate::BatchScript).
    pub(super) const fn for_each(name: &'static str, source: &'static str) -> Self {
        let mut script = Self::new(name, source);
        script.form = Form::ForEach;
        script
    }

    /// Says when a call may be sent again.
    ///
    /// Default: [`Replay::IfUnsent`].
    #[must_use]
    pub const fn replay(mut self, replay: Replay) -> Self {
        self.set_replay(replay);
        self
    }

    pub(super) const fn set_replay(&mut self, replay: Replay) {
        self.replay = replay;
    }

    const fn native(mut self) -> Self {
        self.form = Form::Native;
        self
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn is_for_each(&self) -> bool {
        self.form == Form::ForEach
    }

    pub(super) fn replay_class(&self) -> Replay {
        self.replay
    }

    /// The SHA-1 of the text, in hexadecimal, as the server knows it by.
    pub(super) fn digest(&self) -> Bytes {
        self.ready().digest.clone()
    }

    pub(super) fn text(&self) -> Bytes {
        self.ready().text.clone()
    }

    fn ready(&self) -> &Ready {
        self.ready.get_or_init(|| {
            let text = self.form.around(self.source);
            let digest = sha1_smol::Sha1::from(&text).digest().to_string();
            Ready { digest: digest.into(), text: text.into() }
        })
    }
}

/// Whether `source` is ASCII, and so are the bytes that its decimal escapes stand for.
const fn is_ascii(source: &[u8]) -> bool {
    let mut at = 0;
    while at < source.len() {
        if !source[at].is_ascii() {
            return false;
        }
        if source[at] == b'\\' {
            let (mut digits, mut byte) = (0, 0);
            while digits < 3 && at + 1 < source.len() && source[at + 1].is_ascii_digit() {
                byte = byte * 10 + (source[at + 1] - b'0') as u16;
                digits += 1;
                at += 1;
            }
            if byte > 127 {
                return false;
            }
            if digits == 0 {
                // Whatever is escaped begins no escape of its own.
                at += 1;
            }
        }
        at += 1;
    }
    true
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A call of a [`Script`] that is being put together; see [`Conn::script`].
#[must_use = "nothing runs until `run` is awaited"]
pub struct ScriptCall<'a> {
    conn: &'a Conn,
    script: &'static Script,
    keys: Vec<Bytes>,
    args: Vec<Bytes>,
    wrong: Option<Error>,
}

impl<'a> ScriptCall<'a> {
    /// Adds a key to `KEYS`, behind the connection's prefix. On Cluster all keys of a call must lie in one slot.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.keys.push(self.conn.call_key(key));
        self
    }

    /// Adds an argument to `ARGV`.
    pub fn arg(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into().into_bytes());
        self
    }

    /// Adds a value to `ARGV`, encoded as [`Conn::set`] would.
    pub fn value<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match self.conn.codec().encode(value) {
            Ok(value) => self.args.push(value),
            Err(err) => self.wrong = self.wrong.or(Some(err)),
        }
        self
    }

    /// Runs it and reads what it returns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when a value could not be encoded and
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) when the keys lie in several slots of a
    /// cluster, both before anything is sent; [`ErrorKind::Protocol`](crate::ErrorKind::Protocol) when the reply is
    /// of another type. When the script ends with an error it has run, up to there:
    /// [`Denied`](crate::ErrorKind::Denied), [`OutOfMemory`](crate::ErrorKind::OutOfMemory),
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly) or [`WrongType`](crate::ErrorKind::WrongType) where a command inside met
    /// that, otherwise [`Server`](crate::ErrorKind::Server), whose `source` has the text. Those of [every
    /// call](Conn#errors-of-every-call).
    pub fn run<T: FromReply + Default>(self) -> Call<'a, T> {
        let Self { conn, script, keys, args, wrong } = self;
        let request = wrong.map_or(Ok(Request::Script { script, keys, args }), Err);
        Call::reading(conn, request)
    }
}

impl fmt::Debug for ScriptCall<'_> {
    /// Shows neither keys nor arguments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptCall").field("script", &self.script.name).finish_non_exhaustive()
    }
}

impl Conn {
    /// Begins a call of `script`: add its keys and arguments, then [`run`](ScriptCall::run) it.
    pub fn script(&self, script: &'static Script) -> ScriptCall<'_> {
        ScriptCall { conn: self, script, keys: Vec::new(), args: Vec::new(), wrong: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_text() {
        let text = READ.text();
        assert!(text.starts_with(b"local function main() -- Runs one command"));
        assert_eq!(READ.digest().len(), 40);
        assert_eq!(READ.digest(), sha1_smol::Sha1::from(&text).digest().to_string());
        // From the standard that defines it.
        assert_eq!(
            sha1_smol::Sha1::from("abc").digest().to_string(),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }
}
