//! `spin:variables@3.0.0` and, for components of Spin 2 and 3, `fermyon:spin/variables@2.0.0`: the values that the manifest gives a
//! component, and one that the host gives it, see [`Voucher`].

mod voucher;

use std::collections::BTreeMap;
use std::sync::Arc;

use fnhost_manifest::rotating::Rotated;
use fnhost_manifest::{ComponentSpec, Secret};
use wasmtime::component::{Accessor, HasData, Linker};

use crate::{Capability, NewCall, Provided, Refused, View};

mod bindings {
    wasmtime::component::bindgen!({
        inline: "
            package spin:variables@3.0.0;

            interface variables {
                variant error {
                    invalid-name(string),
                    undefined(string),
                    provider(string),
                    other(string),
                }
                get: async func(name: string) -> result<string, error>;
            }

            world host {
                import variables;
            }
        ",
        world: "host",
        imports: { default: async | store | trappable },
    });
}

mod v2 {
    wasmtime::component::bindgen!({
        world: "fnhost:spin-v2-v3/variables2",
        path: "wit-v2-v3",
        imports: { default: async | trappable },
    });
}

use bindings::spin::variables::variables::{self as interface, Error};
use v2::fermyon::spin::variables as interface2;
use voucher::Voucher;
pub use voucher::{TOKEN_MAC_HEADER, TOKEN_SECRET_VARIABLE};

/// The variables of one component.
#[derive(Debug)]
pub struct Variables {
    component: String,
    values: BTreeMap<String, Secret>,
    rotated: Rotated,
    voucher: Voucher,
}

impl Variables {
    /// The value of [`TOKEN_MAC_HEADER`] for a request to this component whose access token was checked: says so of the token's
    /// signed part, `header.claims`.
    pub fn vouch(&self, signed: &[u8]) -> String {
        self.voucher.mac(signed)
    }

    fn value(&self, name: &str) -> Result<String, String> {
        // What has changed since the start comes first.
        match self.rotated.get(name).or_else(|| self.values.get(name).cloned()) {
            Some(value) => Ok(value.expose().to_owned()),
            None if name == TOKEN_SECRET_VARIABLE => Ok(self.voucher.secret()),
            None => Err(format!(
                "no variable \"{name}\"; add it to [component.{}.variables] in spin.toml",
                self.component
            )),
        }
    }
}

impl Capability for Variables {
    const OFFERS: &'static [&'static str] = &["spin:variables@3.0.0", "fermyon:spin/variables@2.0.0"];

    type Call = Arc<Self>;

    fn validate(component: &ComponentSpec, _: &Provided) -> Result<Self, Refused> {
        Ok(Self {
            component: component.id.clone(),
            values: component.variables.clone(),
            rotated: component.rotated.clone(),
            voucher: Voucher::new(),
        })
    }

    fn link<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        interface::add_to_linker::<T, Binding>(linker, context)?;
        interface2::add_to_linker::<T, Binding>(linker, context)
    }

    fn call(self: &Arc<Self>, _: &NewCall<'_>) -> Self::Call {
        self.clone()
    }
}

/// What the interfaces need of a store's data.
struct Context<'a>(&'a Variables);

fn context<T: View>(state: &mut T) -> Context<'_> {
    Context(&state.capabilities().0.variables)
}

struct Binding;

impl HasData for Binding {
    type Data<'a> = Context<'a>;
}

impl interface::Host for Context<'_> {}

impl<T: Send + 'static> interface::HostWithStore<T> for Binding {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> wasmtime::Result<Result<String, Error>> {
        Ok(accessor.with(|mut access| access.get().0.value(&name).map_err(Error::Undefined)))
    }
}

impl interface2::Host for Context<'_> {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, interface2::Error>> {
        Ok(self.0.value(&name).map_err(interface2::Error::Undefined))
    }
}
