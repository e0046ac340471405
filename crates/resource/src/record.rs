use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};

/// A type whose values are kept as records: a struct, or whatever else serde writes as a map with texts as keys.
///
/// A field is one entry of that map, by the name that serde gives it. What is below it is one value: it is written, merged and
/// indexed as a whole.
///
/// ```
/// use std::borrow::Cow;
/// use redbrick_resource::Record;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct User {
///     id: String,
///     email: String,
///     city: Option<String>,
/// }
///
/// impl Record for User {
///     const NAME: &'static str = "users";
///     const UNIQUE: &'static [&'static str] = &["email"];
///     const LOOKUP: &'static [&'static str] = &["city"];
///
///     fn id(&self) -> Cow<'_, str> {
///         Cow::Borrowed(&self.id)
///     }
/// }
/// ```
pub trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name of the resource, unless its [builder](crate::ResourceBuilder::name) says another: what its keys begin with.
    const NAME: &'static str;

    /// The fields that the id is made of, by the names that serde gives them. An update changes none of them.
    const ID: &'static [&'static str] = &["id"];

    /// The fields in which no two records have the same value. A record in which such a field is absent, or nil (`None`),
    /// has no value there.
    const UNIQUE: &'static [&'static str] = &[];

    /// The fields by whose values records are [listed](crate::Resource::list). One that is `UNIQUE` needs not be here.
    const LOOKUP: &'static [&'static str] = &[];

    /// Returns what tells the record from all others: any text, also the empty one.
    fn id(&self) -> Cow<'_, str>;
}
