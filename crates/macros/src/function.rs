//! The function that an attribute stands on.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote};
use syn::{
    AttrStyle, Attribute, Error, FnArg, GenericArgument, GenericParam, ItemFn, Meta, Pat,
    PathArguments, Result, ReturnType, Signature, Type,
    ext::IdentExt as _,
    parse::{Parse, ParseStream},
};

pub(crate) struct Function(pub(crate) ItemFn);

/// What of a returned value is remembered.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Value,
    Option,
    Result,
    ResultOfOption,
}

impl Kind {
    /// Whether it may be an error.
    pub(crate) fn is_result(self) -> bool {
        matches!(self, Self::Result | Self::ResultOfOption)
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let item: ItemFn = input.parse().map_err(|error| {
            Error::new(error.span(), "this attribute stands on an async function that has a body")
        })?;
        if item.sig.asyncness.is_none() {
            let what = "this attribute stands on an async function";
            return Err(Error::new_spanned(item.sig.fn_token, what));
        }
        Ok(Self(item))
    }
}

impl Function {
    /// What it returns, as it is written; its names are looked at.
    pub(crate) fn kind(&self) -> Kind {
        let ReturnType::Type(_, output) = &self.0.sig.output else { return Kind::Value };
        match within(output, "Result") {
            Some(value) if value.is_some_and(|value| within(value, "Option").is_some()) => {
                Kind::ResultOfOption
            }
            Some(_) => Kind::Result,
            None if within(output, "Option").is_some() => Kind::Option,
            None => Kind::Value,
        }
    }

    /// The names of its arguments, but for `self`, where each can be given once more.
    pub(crate) fn arguments(&self) -> Result<Vec<Ident>> {
        let inputs = self.0.sig.inputs.iter();
        let named = inputs.filter_map(|input| match input {
            FnArg::Receiver(_) => None,
            FnArg::Typed(argument) => Some(argument),
        });
        named
            .map(|argument| match &*argument.pat {
                Pat::Ident(name) if name.subpat.is_none() && name.by_ref.is_none() => {
                    Ok(name.ident.clone())
                }
                other => {
                    let what = "give this argument a name, and take it apart within the function";
                    Err(Error::new_spanned(other, what))
                }
            })
            .collect()
    }

    /// The names of its types and constants that its callers choose.
    pub(crate) fn generics(&self) -> Vec<Ident> {
        let params = self.0.sig.generics.params.iter().filter_map(|param| match param {
            GenericParam::Type(param) => Some(param.ident.clone()),
            GenericParam::Const(param) => Some(param.ident.clone()),
            GenericParam::Lifetime(_) => None,
        });
        params.collect()
    }

    /// Refuses what changes its arguments, and whose value has no type by name.
    pub(crate) fn can_be_remembered(&self) -> Result<()> {
        if let ReturnType::Default = self.0.sig.output {
            let what = "it returns nothing that could be remembered";
            return Err(Error::new_spanned(&self.0.sig, what));
        }
        if let ReturnType::Type(_, output) = &self.0.sig.output
            && let Type::ImplTrait(output) = &**output
        {
            return Err(Error::new_spanned(
                output,
                "name the type: it is that of the cache's values",
            ));
        }
        for input in &self.0.sig.inputs {
            let changes = match input {
                FnArg::Receiver(receiver) => is_mutable(&receiver.ty),
                FnArg::Typed(argument) => is_mutable(&argument.ty),
            };
            if changes {
                let what = "what is remembered depends on its arguments and changes nothing; take `&` here";
                return Err(Error::new_spanned(input, what));
            }
        }
        Ok(())
    }

    /// Its signature, for a function that changes no argument.
    pub(crate) fn signature(&self) -> Signature {
        let mut signature = self.0.sig.clone();
        for input in &mut signature.inputs {
            match input {
                FnArg::Receiver(receiver) if receiver.reference.is_none() => {
                    receiver.mutability = None;
                }
                FnArg::Receiver(_) => {}
                FnArg::Typed(argument) => {
                    if let Pat::Ident(name) = &mut *argument.pat {
                        name.mutability = None;
                    }
                }
            }
        }
        signature
    }

    /// The name of the function as it was written.
    pub(crate) fn companion(&self) -> Ident {
        quote::format_ident!("{}_uncached", self.0.sig.ident)
    }

    /// Borrows all arguments, so that they can be given more than once.
    pub(crate) fn borrowed(&self, arguments: &[Ident]) -> TokenStream {
        let is_owned = |receiver: &&syn::Receiver| !matches!(*receiver.ty, Type::Reference(_));
        let this = own("this");
        let this = self.0.sig.receiver().filter(is_owned).map(|_| quote! { let #this = &self; });
        let borrowed = arguments.iter().map(lent);
        quote! { #this #(let #borrowed = &#arguments;)* }
    }

    /// The function as it was written, under its other name. Some arguments may be there for the attribute alone.
    pub(crate) fn uncached(&self, arguments: &[Ident]) -> TokenStream {
        let mut item = self.0.clone();
        let used = syn::parse_quote! { { #(let _ = &#arguments;)* } };
        item.block.stmts.insert(0, syn::Stmt::Expr(used, None));
        let about = format!("Calls `{}` as it is written, without its cache.", item.sig.ident);
        item.sig.ident = self.companion();
        let inner = self.inner_attributes();
        let shared: Vec<_> = outer(&item.attrs).filter(|it| is_shared(it)).map(tolerant).collect();
        item.attrs = inner.into_iter().cloned().collect();
        let quiet = quiet();
        quote! { #[doc = #about] #[#quiet] #(#shared)* #item }
    }

    /// What stands above it.
    pub(crate) fn attributes(&self) -> Vec<TokenStream> {
        outer(&self.0.attrs).map(tolerant).collect()
    }

    /// What stands within its body about the whole of it.
    pub(crate) fn inner_attributes(&self) -> Vec<&Attribute> {
        let attributes = self.0.attrs.iter();
        attributes.filter(|attribute| matches!(attribute.style, AttrStyle::Inner(_))).collect()
    }

    /// Calls the other one, with arguments that were borrowed.
    pub(crate) fn call(&self, arguments: &[Ident], in_impl: bool) -> TokenStream {
        let name = self.companion();
        let generics = self.generics();
        let turbofish = (!generics.is_empty()).then(|| quote! { ::<#(#generics),*> });
        let this = own("this");
        let borrowed = arguments.iter().map(lent);
        let arguments = quote! { #(::core::clone::Clone::clone(#borrowed)),* };
        match self.0.sig.receiver() {
            Some(receiver) if matches!(*receiver.ty, Type::Reference(_)) => {
                quote! { self.#name #turbofish (#arguments).await }
            }
            Some(_) => {
                quote! { ::core::clone::Clone::clone(#this).#name #turbofish (#arguments).await }
            }
            None if in_impl => quote! { Self::#name #turbofish (#arguments).await },
            None => quote! { #name #turbofish (#arguments).await },
        }
    }

    /// The begin of an async block that its body stands in, so that it is inferred and coerced as that of a function is.
    pub(crate) fn expected(&self) -> Option<TokenStream> {
        let quiet = quote! { allow(unreachable_code, clippy::diverging_sub_expression, clippy::empty_loop) };
        let result = own("result");
        self.output().map(|output| {
            quote! {
                #[#quiet]
                if false {
                    let #result: #output = loop {};
                    return #result;
                }
            }
        })
    }

    /// Its type, where it has a name.
    pub(crate) fn output(&self) -> Option<TokenStream> {
        match &self.0.sig.output {
            ReturnType::Default => Some(quote! { () }),
            ReturnType::Type(_, output) => {
                let output = output.to_token_stream();
                let is_named = !output.clone().into_iter().any(|token| token.to_string() == "impl");
                is_named.then_some(output)
            }
        }
    }
}

/// What clippy would have to say of the author's text where it stands, or says already of the function.
pub(crate) fn quiet() -> TokenStream {
    quote! {
        allow(
            clippy::items_after_statements,
            clippy::missing_errors_doc,
            clippy::missing_panics_doc,
            clippy::used_underscore_binding,
        )
    }
}

/// The name under which an argument is borrowed.
fn lent(argument: &Ident) -> Ident {
    own(&format!("lent_{}", argument.unraw()))
}

/// A name that no user's name can be.
pub(crate) fn own(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// The first type within a type of this name, if it is one; nothing within it where there is none.
fn within<'t>(of: &'t Type, name: &str) -> Option<Option<&'t Type>> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return Some(None) };
    Some(arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(value) => Some(value),
        _ => None,
    }))
}

fn is_mutable(of: &Type) -> bool {
    matches!(of, Type::Reference(reference) if reference.mutability.is_some())
}

fn outer(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| matches!(attribute.style, AttrStyle::Outer))
}

/// An attribute, which expects nothing: of two functions, a lint may be met in one.
fn tolerant(attribute: &Attribute) -> TokenStream {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("expect") => {
            let (allow, lints) = (quote! { allow }, &list.tokens);
            quote! { #[#allow(#lints)] }
        }
        _ => attribute.to_token_stream(),
    }
}

/// Whether an attribute is about the other one as well.
fn is_shared(attribute: &Attribute) -> bool {
    let names = ["allow", "cfg", "deny", "expect", "forbid", "must_use", "warn"];
    names.iter().any(|name| attribute.path().is_ident(name))
}
