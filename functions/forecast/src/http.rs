//! Forecasts for those who keep the stock.

use crate::choose::Plan;
use crate::reorder::{LEAD_TIME_DAYS_MAX, Levels, SERVICE_LEVEL_PERCENT, quantity};
use crate::sql;
use contract::problem::answer;
use contract::token::{self, Caller, Role};
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::page::Paging;
use fnhost_sdk::problem::Problem;
use fnhost_sdk::time::rfc3339;
use fnhost_sdk::{Host, Row, SqlError, routes};
use serde::{Deserialize, Serialize};

/// Products in an answer where the caller does not say.
pub const PRODUCTS_DEFAULT: i64 = 100;
/// Products in an answer at most.
pub const PRODUCTS_MAX: i64 = 500;
/// Days of history in an answer.
pub const HISTORY_DAYS: i32 = 182;

/// A product's forecast in short.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Summary {
    sku: String,
    /// Days until ordered goods arrive.
    lead_time_days: i32,
    /// In how many percent of the cases the stock is to last until then.
    service_level_percent: i32,
    /// The stock as inventory last told it with an order's event; null if it never did.
    stock: Option<LastStock>,
    /// Null until the day after the first demand.
    forecast: Option<Made>,
}

/// Stock of a product, and when it was that.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct LastStock {
    on_hand: i64,
    reserved: i64,
    as_of: String,
}

/// How a forecast came about, and what follows from it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Made {
    made_at: String,
    age_s: i64,
    /// The first day that is forecast.
    begins: String,
    model: String,
    /// Mean absolute scaled error of the model in the back-test; null if the history was too short for one.
    error: Option<f64>,
    /// That of seasonal naive in the same back-test.
    naive_error: Option<f64>,
    /// Units of the days to come, in all.
    units_in_all: f64,
    /// Order when so many units or fewer are available.
    reorder_point: i64,
    /// Units to order now; 0 if there are enough, null if the stock is not known.
    reorder_quantity: Option<i64>,
}

/// A product's forecast with its days. The fields of [`Summary`] are written out: a schema made of two says less.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Forecast {
    sku: String,
    /// Days until ordered goods arrive.
    lead_time_days: i32,
    /// In how many percent of the cases the stock is to last until then.
    service_level_percent: i32,
    /// The stock as inventory last told it with an order's event; null if it never did.
    stock: Option<LastStock>,
    /// Null until the day after the first demand.
    forecast: Option<Made>,
    /// Days with demand or without stock, ascending; a day that is left out had no demand.
    history: Vec<PastDay>,
    /// The days to come; empty without a forecast.
    days: Vec<DayAhead>,
}

/// Demand of a day.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct PastDay {
    day: String,
    units: i64,
    /// Somebody was refused for want of stock: the demand was higher.
    short: bool,
}

/// Forecast of a day.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct DayAhead {
    units: f64,
    within_80: [f64; 2],
    within_95: [f64; 2],
}

/// A page of forecasts.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Forecasts {
    forecasts: Vec<Summary>,
    /// For the parameter `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// How a product is reordered.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct SetReorder {
    /// Days until ordered goods arrive.
    lead_time_days: i32,
    /// In how many percent of the cases the stock is to last until then.
    service_level_percent: i32,
}

/// Answers a request.
pub async fn handle<H: Host>(host: &H, request: Request) -> Response {
    answer(route(host, &request).await)
}

async fn route(host: &impl Host, request: &Request) -> Result<Response, Problem> {
    routes! {
        request, caller: token::caller(host, request);
        ["forecast"] => GET as caller: list(host, request, caller);
        ["forecast", sku] => GET as caller: one(host, caller, sku), PUT as caller: set(host, request, caller, sku);
        _ => Problem::not_found("no such address");
    }
}

async fn list(host: &impl Host, request: &Request, caller: Caller) -> Result<Response, Problem> {
    admin(caller)?;
    let low = match request.parameter("low")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::invalid("low", "true or false")),
    };
    let paging: Paging<String> = Paging::of(request, PRODUCTS_DEFAULT, PRODUCTS_MAX)?;
    let after = paging.after.clone().unwrap_or_default();
    let rows = sql::list(host, after, paging.rows(), low).await?;
    let found = rows.iter().map(|row| Ok(summary(row)?.0)).collect::<Result<_, SqlError>>()?;
    let (forecasts, next_cursor) = paging.page(found, |last: &Summary| last.sku.clone());
    Ok(Response::json(200, &Forecasts { forecasts, next_cursor }))
}

async fn one(host: &impl Host, caller: Caller, sku: &str) -> Result<Response, Problem> {
    admin(caller)?;
    let row = sql::one(host, sku, HISTORY_DAYS).await?.ok_or_else(unknown)?;
    let (Summary { sku, lead_time_days, service_level_percent, stock, forecast }, plan) = summary(&row)?;
    let days = plan.into_iter().flat_map(|plan| {
        let bounds = plan.within_80.into_iter().zip(plan.within_95);
        plan.units.into_iter().zip(bounds)
    });
    let days = days.map(|(units, (within_80, within_95))| DayAhead { units, within_80, within_95 }).collect();
    let history = row.json(12)?;
    let answer = Forecast { sku, lead_time_days, service_level_percent, stock, forecast, history, days };
    Ok(Response::json(200, &answer))
}

async fn set(host: &impl Host, request: &Request, caller: Caller, sku: &str) -> Result<Response, Problem> {
    admin(caller)?;
    let SetReorder { lead_time_days, service_level_percent } = request.json()?;
    if !(0..=LEAD_TIME_DAYS_MAX).contains(&lead_time_days) {
        return Err(Problem::invalid("lead_time_days", format!("between 0 and {LEAD_TIME_DAYS_MAX} days")));
    }
    if !SERVICE_LEVEL_PERCENT.contains(&service_level_percent) {
        let (low, high) = SERVICE_LEVEL_PERCENT.into_inner();
        return Err(Problem::invalid("service_level_percent", format!("between {low} and {high} percent")));
    }
    if !sql::set(host, sku, lead_time_days, service_level_percent).await? {
        return Err(unknown());
    }
    Ok(Response::empty(204))
}

pub(crate) fn unknown() -> Problem {
    Problem::not_found("nothing was ever ordered under this SKU").with_field("sku")
}

pub(crate) fn not_admin() -> Problem {
    Problem::forbidden("forecasts need the role admin")
}

fn admin(caller: Caller) -> Result<(), Problem> {
    if caller.role == Role::Admin { Ok(()) } else { Err(not_admin()) }
}

/// A product without its days, and the plan that has them.
fn summary(row: &Row) -> Result<(Summary, Option<Plan>), SqlError> {
    let stock = match (row.int64_or_null(3)?, row.int64_or_null(4)?, row.int64_or_null(5)?) {
        (Some(on_hand), Some(reserved), Some(as_of)) => {
            let (seconds, millis) = (as_of.unsigned_abs() / 1000, as_of.unsigned_abs() % 1000);
            Some(LastStock { on_hand, reserved, as_of: rfc3339(seconds, millis as u32) })
        }
        _ => None,
    };
    let plan: Option<Plan> = row.json_or_null(11)?;
    let forecast = match &plan {
        None => None,
        Some(plan) => {
            let levels = Levels { reorder_point: row.int64(9)?, order_up_to: row.int64(10)? };
            let available = stock.as_ref().map(|stock| stock.on_hand - stock.reserved);
            Some(Made {
                made_at: row.text(7)?.to_owned(),
                age_s: row.int64(8)?,
                begins: row.text(6)?.to_owned(),
                model: plan.model.clone(),
                error: plan.error,
                naive_error: plan.naive_error,
                units_in_all: plan.units.iter().sum(),
                reorder_point: levels.reorder_point,
                reorder_quantity: available.map(|available| quantity(levels, available)),
            })
        }
    };
    let (lead_time_days, service_level_percent) = (row.int32(1)?, row.int32(2)?);
    Ok((
        Summary { sku: row.text(0)?.to_owned(), lead_time_days, service_level_percent, stock, forecast },
        plan,
    ))
}
