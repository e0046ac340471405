//! Server-side sessions.

use std::error::Error;

use redbrick::{
    prelude::*,
    session::{Device, Saved},
};
use serde::{Deserialize, Serialize};

use crate::steps::Tour;

#[derive(Debug, Default, Deserialize, Serialize)]
struct Cart {
    items: Vec<String>,
}

pub(crate) async fn walk(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("session: two devices, and a logout that stays one");
    let sessions: Sessions<Cart> = Sessions::new(conn.clone());
    let phone = Device::new().user_agent("a phone").ip([192, 0, 2, 7]);
    let session = sessions.create("ada", Cart::default()).device(phone).await?;
    let cookie = session.id().expose();
    tour.say(format_args!("logged in; the cookie has {} digits", cookie.len()));
    let laptop = Device::new().user_agent("a laptop");
    let other = sessions.create("ada", Cart::default()).device(laptop).await?;

    let id: SessionId = cookie.parse()?;
    let Some(mut session) = sessions.get_and_touch(&id).await? else { return Err("gone".into()) };
    session.data.items.push("a book".to_owned());
    tour.say(format_args!("a request reads, touches and saves: {:?}", {
        sessions.save(&mut session).await?
    }));
    for listed in sessions.list("ada").await? {
        let device = listed.device.user_agent.as_deref().unwrap_or("unknown");
        tour.say(format_args!("ada is logged in with {device}, here: {}", listed.is_current(&id)));
    }
    let ended = sessions.delete_others("ada", &id).await?;
    tour.say(format_args!("everywhere else logged out: {ended} session"));
    assert!(!sessions.is_valid(other.id()).await?, "the laptop");

    sessions.delete(&id).await?;
    let late = sessions.save(&mut session).await?;
    assert_eq!(late, Saved::Gone, "a late save brings nothing back");
    tour.say(format_args!("logged out; a request that was still at it saves: {late:?}"));
    Ok(())
}
