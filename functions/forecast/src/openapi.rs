//! The interface of `forecast`, described.

use crate::http::{
    Forecast, Forecasts, LastStock, Made, PRODUCTS_DEFAULT, PRODUCTS_MAX, PastDay, SetReorder, Summary,
    not_admin, unknown,
};
use crate::reorder::{LEAD_TIME_DAYS_MAX, SERVICE_LEVEL_PERCENT};
use contract::openapi::sku;
use fnhost_sdk::openapi::{Api, Call, HttpMethod, page, text, time};
use fnhost_sdk::problem::Problem;
use serde_json::{Value, json};

/// The calls of `forecast`.
#[must_use]
pub fn api() -> Api {
    let day = || json!({ "format": "date" });
    let lead_time = || json!({ "minimum": 0, "maximum": LEAD_TIME_DAYS_MAX });
    let level =
        || json!({ "minimum": SERVICE_LEVEL_PERCENT.start(), "maximum": SERVICE_LEVEL_PERCENT.end() });
    contract::openapi::api("forecast", "What will be wanted of each product, and when to order more")
        .call(HttpMethod::Get, "/forecast", list())
        .call(HttpMethod::Get, "/forecast/{sku}", one())
        .call(HttpMethod::Put, "/forecast/{sku}", set())
        .limit::<Summary>("sku", sku())
        .limit::<Summary>("lead_time_days", lead_time())
        .limit::<Summary>("service_level_percent", level())
        .limit::<SetReorder>("lead_time_days", lead_time())
        .limit::<SetReorder>("service_level_percent", level())
        .limit::<LastStock>("as_of", time())
        .limit::<Made>("made_at", time())
        .limit::<Made>("begins", day())
        .limit::<PastDay>("day", day())
}

fn kettle() -> Value {
    json!({
        "sku": "KETTLE",
        "lead_time_days": 7,
        "service_level_percent": 95,
        "stock": { "on_hand": 60, "reserved": 2, "as_of": "2026-01-31T08:00:00.250Z" },
        "forecast": {
            "made_at": "2026-01-31T00:00:05.100Z", "age_s": 28800, "begins": "2026-01-31", "model": "mstl",
            "error": 0.81, "naive_error": 1.02, "units_in_all": 252.0, "reorder_point": 86, "reorder_quantity": 208,
        },
    })
}

fn list() -> Call {
    let one = json!({ "forecasts": [kettle()], "next_cursor": null });
    Call::new("forecasts", "The forecasts, by SKU")
        .about("Needs the role admin.")
        .signed_in()
        .query(
            "low",
            "Only products whose stock is at or below the reorder point",
            json!({ "type": "boolean" }),
        )
        .query("limit", "Products in the answer at most", page(PRODUCTS_DEFAULT, PRODUCTS_MAX))
        .query("cursor", "The `next_cursor` of the page before", text())
        .answers::<Forecasts>(200, "A page of forecasts", &one)
        .refuses("The caller is no admin", &not_admin())
        .refuses("A parameter is out of range", &Problem::invalid("limit", format!("1 to {PRODUCTS_MAX}")))
}

fn one() -> Call {
    let mut kettle = kettle();
    kettle["history"] = json!([{ "day": "2026-01-30", "units": 9, "short": false }]);
    kettle["days"] = json!([{ "units": 9.2, "within_80": [5.4, 13.0], "within_95": [3.4, 15.0] }]);
    of_product("forecast", "The forecast of a product, with its history")
        .about("Needs the role admin.")
        .answers::<Forecast>(200, "The forecast", &kettle)
}

fn set() -> Call {
    let range = format!("between 0 and {LEAD_TIME_DAYS_MAX} days");
    of_product("setReorder", "Set the lead time and the service level of a product")
        .about("Needs the role admin. The product is forecast again with the next tick.")
        .body::<SetReorder>(json!({ "lead_time_days": 14, "service_level_percent": 98 }))
        .answers_nothing(204, "Set")
        .refuses("A number is none, or out of range", &Problem::invalid("lead_time_days", range))
}

fn of_product(id: &str, summary: &str) -> Call {
    let mut keywords = sku();
    keywords["examples"] = json!(["KETTLE"]);
    Call::new(id, summary)
        .signed_in()
        .path("sku", "The product", keywords)
        .refuses("The caller is no admin", &not_admin())
        .refuses("Nothing was ever ordered under this SKU", &unknown())
}
