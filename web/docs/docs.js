// Swagger UI over the interface of this very host. It asks nobody else: no validator, no fonts.

window.SwaggerUIBundle({
  dom_id: "#docs",
  url: "/openapi.json",
  presets: [window.SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
});
