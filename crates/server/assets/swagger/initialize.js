// Starts Swagger UI on our own document. Keys are kept in the memory of this page only.
window.addEventListener('DOMContentLoaded', () => {
  // Declared apart, because the document is asked for before the call returns.
  let ui;
  ui = SwaggerUIBundle({
    url: 'openapi.json',
    dom_id: '#api',
    presets: [SwaggerUIBundle.presets.apis],
    layout: 'BaseLayout',
    // No validator of somebody else is asked about this document.
    validatorUrl: null,
    persistAuthorization: false,
    deepLinking: true,
    docExpansion: 'list',
    defaultModelsExpandDepth: 0,
    defaultModelExpandDepth: 3,
    defaultModelRendering: 'example',
    displayRequestDuration: true,
    requestInterceptor: request => presentWhatThereIs(ui, request),
  });
});

// A key that was pasted into the box of another kind is presented all the same: the server then says what it is, or what is
// wrong with it, instead of missing it.
function presentWhatThereIs(ui, request) {
  const pasted = ui?.authSelectors.authorized().valueSeq().map(scheme => scheme.get('value')).filter(Boolean).first();
  if (pasted && !request.loadSpec && !request.headers.Authorization) {
    request.headers.Authorization = `Bearer ${pasted}`;
  }
  return request;
}

// Each box of the dialog asks for the focus, so the last one would have it; people start with the first.
document.addEventListener('click', event => {
  if (event.target.closest('.scheme-container .authorize, .authorization__btn')) {
    setTimeout(() => document.querySelector('.dialog-ux input')?.focus());
  }
});
