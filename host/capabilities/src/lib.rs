//! What a component may import beside plain WASI: one folder for each interface, one lifecycle ([`Capability`]) for all.
//!
//! An interface is added by a folder that implements [`Capability`] and a line in [`capabilities!`] below: what is linked,
//! what components are told that is offered, and what a call holds follow from that list.

pub mod key_value;
mod lifecycle;
pub mod outbound_http;
pub mod postgres;
pub mod variables;

use std::sync::Arc;

use fnhost_manifest::ComponentSpec;
use wasmtime::component::Linker;

pub use lifecycle::{Capability, NewCall, Provided, Refused, View};

/// Makes what follows from the list of capabilities.
macro_rules! capabilities {
    ($($name:ident: $capability:ty),+ $(,)?) => {
        /// What a component was granted of each capability; what all its calls share.
        #[derive(Clone)]
        #[allow(missing_docs, reason = "each is documented at its capability")]
        pub struct Capabilities {
            $(pub $name: Arc<$capability>,)+
        }

        /// What one call has of each capability.
        #[allow(missing_docs, reason = "each is documented at its capability")]
        pub struct Calls {
            $(pub $name: <$capability as Capability>::Call,)+
        }

        impl Capabilities {
            /// What a component is granted.
            ///
            /// # Errors
            /// It asks for what this host cannot give.
            pub fn validate(component: &ComponentSpec, host: &Provided) -> Result<Self, Refused> {
                let capabilities = Self {
                    $($name: Arc::new(<$capability>::validate(component, host)?),)+
                };
                $(capabilities.$name.show_metrics();)+
                Ok(capabilities)
            }

            /// What a new call has of each.
            pub fn call(&self, call: &NewCall<'_>) -> Calls {
                Calls { $($name: self.$name.call(call),)+ }
            }
        }

        /// Every interface that is offered beside plain WASI, in every version.
        pub fn offered() -> Vec<&'static str> {
            [$(<$capability>::OFFERS),+].concat()
        }

        /// Links every capability.
        fn link<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
            $(<$capability>::link(linker)?;)+
            Ok(())
        }
    };
}

capabilities! {
    variables: variables::Variables,
    postgres: postgres::Postgres,
    key_value: key_value::KeyValue,
    outbound_http: outbound_http::Outbound,
}

/// Links everything that a component can import, plain WASI included; one linker serves all components.
///
/// # Errors
/// The linker has some of it already.
pub fn add_to_linker<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi::p3::add_to_linker(linker)?;
    link(linker)
}
