//! Typed records.

use std::{borrow::Cow, error::Error};

use redbrick::{prelude::*, resource::Error as ResourceError};
use serde::{Deserialize, Serialize};

use crate::steps::Tour;

#[derive(Debug, Deserialize, Serialize)]
struct Member {
    id: String,
    email: String,
    city: Option<String>,
}

impl Record for Member {
    const NAME: &'static str = "members";
    const UNIQUE: &'static [&'static str] = &["email"];
    const LOOKUP: &'static [&'static str] = &["city"];

    fn id(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }
}

/// What is to change; the rest stays.
#[derive(Serialize)]
struct Move<'a> {
    city: &'a str,
}

pub(crate) async fn walk(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("resource: records and what finds them, in one step");
    let members = Resource::<Member>::new(conn.clone());
    let member = |id: &str, email: &str| Member {
        id: id.to_owned(),
        email: email.to_owned(),
        city: Some("London".to_owned()),
    };
    for (id, email) in [("1", "ada@example.com"), ("2", "charles@example.com")] {
        members.create(&member(id, email)).await?;
    }
    match members.create(&member("3", "ada@example.com")).await {
        Err(ResourceError::UniqueTaken { field, .. }) => {
            tour.say(format_args!("a third one is refused, its {field} is taken"));
        }
        other => return Err(format!("{other:?}").into()),
    }
    let moved = members.update("1", &Move { city: "Turin" }).await?;
    tour.say(format_args!("one field changed: {moved:?}"));
    let page = members.list().where_eq("city", "London").await?;
    tour.say(format_args!("in London: {} of {}", page.items.len(), page.total));
    let found = members.get_by("email", "ada@example.com").await?;
    tour.say(format_args!("found by e-mail address: {}", found.id));
    let picked = members.pick("2").await?;
    tour.say(format_args!("picked, and so removed: {}; again: {:?}", picked.id, {
        members.pick("2").await.map_err(|err| err.to_string())
    }));
    members.delete("1").await?;
    Ok(())
}
