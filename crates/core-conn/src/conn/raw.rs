use std::{fmt, ops::Deref, time::Duration};

use fred::{clients::Client, interfaces::ClientLike, types::config::ReconnectPolicy};
use tokio::{task::AbortHandle, time::timeout_at};

use super::{Conn, settings, time::after};
use crate::{Error, ErrorKind, Result, error::fred::from_dial};

/// A fred client with a connection of its own; see [`Conn::fred`]. Dropping it closes the connection, also under
/// clones of the client.
pub struct RawClient {
    client: Client,
    task: AbortHandle,
}

impl Conn {
    /// Connects a client of the library underneath, for what core-conn has no call for.
    ///
    /// It has a connection of its own, so that nothing it does can disturb the calls of this one; it is not
    /// supervised, and it ends when it is dropped. It dials again by itself after a loss and sends each command once.
    /// The credentials are those of now.
    ///
    /// Mind what fred does with replies: a list of three or four elements that begins with `message`, `subscribe` or
    /// a word like these is taken for a message, and from then on every reply on the connection goes to the wrong
    /// caller. Never ask it for a list whose first element a user can choose, as `MGET`, `LRANGE` and `HMGET` return.
    ///
    /// fred is no part of this crate's promises about versions: its types are those of [`crate::fred`].
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), within the connect timeout; [`ErrorKind::Closed`] on a closed connection.
    pub async fn fred(&self) -> Result<RawClient> {
        if let Some(ended) = self.owner.ended() {
            return Err(ended);
        }
        let config = self.config();
        let deadline = after(config.connect_timeout);
        let credentials = self.owner.core.known_login(deadline).await?;
        let access =
            settings::access(config, settings::servers(config), &credentials, config.database);
        let (performance, connection) =
            (settings::performance(config), settings::connection(config));
        let millis = |delay: Duration| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        let (min, max) = config.reconnect_delay;
        let policy = ReconnectPolicy::new_exponential(0, millis(min), millis(max), 2);
        let client = Client::new(access, Some(performance), Some(connection), Some(policy));
        let task = client.connect().abort_handle();
        let raw = RawClient { client, task };
        let endpoint = config.endpoint.to_string();
        match timeout_at(deadline, raw.client.wait_for_connect()).await {
            Ok(Ok(())) => Ok(raw),
            Ok(Err(err)) => Err(from_dial(err, &endpoint)),
            Err(elapsed) => {
                let what = format!("{endpoint}: not connected within {:?}", config.connect_timeout);
                Err(Error::new(ErrorKind::Timeout, what).with_source(elapsed))
            }
        }
    }
}

impl Deref for RawClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for RawClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for RawClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawClient").finish_non_exhaustive()
    }
}
