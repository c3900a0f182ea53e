{{/* Name of everything in this release. */}}
{{- define "fnhost.name" -}}
{{- if contains "fnhost" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-fnhost" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Labels that select: (dict "root" . "part" "host"). */}}
{{- define "fnhost.selector" -}}
app.kubernetes.io/name: fnhost
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "fnhost.labels" -}}
{{ include "fnhost.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "fnhost.image" -}}
{{ required "image.repository is required" .Values.image.repository }}@{{ required "image.digest is required: sha256:…, as docker push prints it" .Values.image.digest }}
{{- end }}

{{/* A reference to a Secret's key: (dict "what" "database.url" "ref" .Values.database.url). */}}
{{- define "fnhost.secretKey" -}}
secretKeyRef:
  name: {{ required (printf "%s.secret is required: the name of a Secret" .what) .ref.secret }}
  key: {{ .ref.key }}
{{- end }}

{{/* Of every pod: (dict "uid" 10001). */}}
{{- define "fnhost.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
fsGroup: {{ .uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* Of every container. */}}
{{- define "fnhost.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* What a pod of hosts and the migration have in common. */}}
{{- define "fnhost.pod" -}}
serviceAccountName: {{ .Values.serviceAccountName }}
# Nothing in a pod asks Kubernetes for anything.
automountServiceAccountToken: false
# Variables of Services would be taken for fnhost's own: FNHOST_KAFKA_….
enableServiceLinks: false
securityContext: {{- include "fnhost.podSecurity" (dict "uid" 10001) | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: data
    emptyDir: { sizeLimit: {{ .Values.dataSize }} }
  - name: tmp
    emptyDir: { sizeLimit: {{ .Values.tmpSize }} }
  {{- with .Values.files.secret }}
  - name: files
    secret: { secretName: {{ . }}, defaultMode: 0440 }
  {{- end }}
{{- end }}

{{- define "fnhost.mounts" -}}
- { name: data, mountPath: /var/lib/fnhost }
- { name: tmp, mountPath: /tmp }
{{- if .Values.files.secret }}
- { name: files, mountPath: /etc/fnhost, readOnly: true }
{{- end }}
{{- end }}

{{/* What `fnhost up` and `fnhost migrate` have to know. */}}
{{- define "fnhost.environment" -}}
# Below the volume: fnhost wants a folder that only its own account can write.
- { name: FNHOST_DATA_DIR, value: /var/lib/fnhost/data }
- { name: FNHOST_LOG_FORMAT, value: {{ .Values.logFormat }} }
- name: FNHOST_DATABASE
  valueFrom: {{- include "fnhost.secretKey" (dict "what" "database.url" "ref" .Values.database.url) | nindent 4 }}
- name: FNHOST_ROLE_SECRET
  valueFrom: {{- include "fnhost.secretKey" (dict "what" "database.roleSecret" "ref" .Values.database.roleSecret) | nindent 4 }}
{{- range $name, $value := .Values.variables }}
- { name: SPIN_VARIABLE_{{ upper $name }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- range $name, $ref := .Values.secretVariables }}
- name: SPIN_VARIABLE_{{ upper $name }}
  valueFrom: {{- include "fnhost.secretKey" (dict "what" (printf "secretVariables.%s" $name) "ref" $ref) | nindent 4 }}
{{- end }}
{{- if .Values.laptop.enabled }}
- { name: SPIN_VARIABLE_PAYMENT_GATEWAY_URL, value: "http://{{ include "fnhost.name" . }}-payment-gateway:4010" }
{{- end }}
{{- end }}

{{/* Lets only hosts and the migration connect: (dict "root" . "part" "kafka" "port" "kafka"). */}}
{{- define "fnhost.onlyFromHosts" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "fnhost.name" .root }}-{{ .part }}
  labels: {{- include "fnhost.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "fnhost.selector" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    - ports: [{ port: {{ .port }} }]
      from:
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: fnhost
              app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}
