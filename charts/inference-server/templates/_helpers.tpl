{{- /* Names. A component is one of: gateway, dispatch, operator, migrate, postgresql, valkey, test. */}}

{{- define "inference-server.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Short enough for all suffixes. */}}
{{- define "inference-server.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (.Values.nameOverride | default .Chart.Name) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Arguments, here and below: dict "root" $ "component" NAME. */}}
{{- define "inference-server.componentName" -}}
{{ include "inference-server.fullname" .root }}-{{ .component }}
{{- end }}

{{- /* Name of an object without a namespace. */}}
{{- define "inference-server.clusterName" -}}
{{ .root.Release.Namespace }}-{{ include "inference-server.componentName" . }}
{{- end }}

{{- define "inference-server.host" -}}
{{ include "inference-server.componentName" . }}.{{ .root.Release.Namespace }}.svc
{{- end }}

{{- define "inference-server.serviceAccountName" -}}
{{- $account := (get .root.Values .component).serviceAccount }}
{{- $account.name | default (ternary (include "inference-server.componentName" .) "default" $account.create) }}
{{- end }}


{{- /* Labels. Without "component" for an object that belongs to no component. */}}

{{- define "inference-server.releaseLabels" -}}
app.kubernetes.io/name: {{ include "inference-server.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "inference-server.selectorLabels" -}}
{{ include "inference-server.releaseLabels" . }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "inference-server.labels" -}}
{{ include (ternary "inference-server.selectorLabels" "inference-server.releaseLabels" (hasKey . "component")) . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* metadata of an object; a pod template has labels and annotations of its own. */}}
{{- define "inference-server.metadata" -}}
name: {{ include (ternary "inference-server.componentName" "inference-server.fullnameOf" (hasKey . "component")) . }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "inference-server.labels" . | nindent 2 }}
{{- end }}

{{- define "inference-server.fullnameOf" -}}
{{ include "inference-server.fullname" .root }}
{{- end }}


{{- /* Secrets. Generated values are read from the cluster again with every upgrade, and kept in
.Values for the rest of this rendering, so that all templates use the same values. */}}

{{- define "inference-server.hasOwnSecret" -}}
{{- with .Values }}
{{- if not (and .auth.existingSecret .externalDatabase.existingSecret .externalRedis.existingSecret) }}true{{ end }}
{{- end }}
{{- end }}

{{- define "inference-server.remember" -}}
{{- $found := dict }}
{{- with lookup "v1" "Secret" .root.Release.Namespace (include "inference-server.fullname" .root) }}
{{- $found = .data | default dict }}
{{- end }}
{{- $old := get $found .key | default "" | b64dec }}
{{- $old | default (randAlphaNum 48) }}
{{- end }}

{{- define "inference-server.makeSecrets" -}}
{{- if not (hasKey .Values "madeSecrets") }}
{{- $made := dict }}
{{- if not .Values.auth.existingSecret }}
{{- $_ := set $made "SECRET_KEY" (include "inference-server.remember" (dict "root" . "key" "SECRET_KEY")) }}
{{- end }}
{{- if not .Values.externalDatabase.existingSecret }}
{{- $password := include "inference-server.remember" (dict "root" . "key" "POSTGRES_PASSWORD") }}
{{- $host := include "inference-server.host" (dict "root" . "component" "postgresql") }}
{{- $_ := set $made "POSTGRES_PASSWORD" $password }}
{{- $_ := set $made "DATABASE_URL" (printf "postgresql://inference:%s@%s:5432/inference" $password $host) }}
{{- end }}
{{- if not .Values.externalRedis.existingSecret }}
{{- $password := include "inference-server.remember" (dict "root" . "key" "REDIS_PASSWORD") }}
{{- $host := include "inference-server.host" (dict "root" . "component" "valkey") }}
{{- $_ := set $made "REDIS_PASSWORD" $password }}
{{- $_ := set $made "REDIS_URL" (printf "redis://:%s@%s:6379/0" $password $host) }}
{{- end }}
{{- $_ := set .Values "madeSecrets" $made }}
{{- end }}
{{- end }}

{{- /* An environment variable from a Secret: dict "root" $ "name" NAME, and "existing" SECRET "key" KEY for
a Secret that the chart does not create. */}}
{{- define "inference-server.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .existing | default (include "inference-server.fullname" .root) }}
      key: {{ ternary .key .name (not (empty .existing)) }}
{{- end }}

{{- define "inference-server.databaseEnv" -}}
{{- with .Values.externalDatabase }}
{{- include "inference-server.secretEnv" (dict "root" $ "name" "DATABASE_URL" "existing" .existingSecret "key" .key) }}
{{- end }}
{{- end }}

{{- define "inference-server.redisEnv" -}}
{{- with .Values.externalRedis }}
{{- include "inference-server.secretEnv" (dict "root" $ "name" "REDIS_URL" "existing" .existingSecret "key" .key) }}
{{- end }}
{{- end }}

{{- define "inference-server.secretKeyEnv" -}}
{{- with .Values.auth }}
{{- include "inference-server.secretEnv" (dict "root" $ "name" "SECRET_KEY" "existing" .existingSecret "key" .key) }}
{{- end }}
{{- end }}


{{- /* URL of the API for clients, if it is known. */}}
{{- define "inference-server.publicUrl" -}}
{{- $scheme := ternary "https" "http" (not (empty .Values.ingress.tlsSecretName)) }}
{{- .Values.config.publicUrl | default (ternary (printf "%s://%s" $scheme .Values.ingress.host) "" .Values.ingress.enabled) }}
{{- end }}

{{- define "inference-server.clusterUrl" -}}
http://{{ include "inference-server.host" (dict "root" . "component" "gateway") }}:{{ .Values.gateway.service.port }}
{{- end }}


{{- /* Pods, within the restricted Pod Security Standard. */}}

{{- /* dict "root" $ "image" VALUES */}}
{{- define "inference-server.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* metadata of a pod: dict "root" $ "component" NAME "follows" LIST, of `config` and `secret`: a pod does
not detect their changes, a changed annotation replaces it. Without the label of the chart's version: the
databases would restart with each version. */}}
{{- define "inference-server.podMetadata" -}}
{{- $annotations := dict }}
{{- if has "config" .follows }}
{{- $_ := set $annotations "checksum/config" (include "inference-server.settings" .root | sha256sum) }}
{{- end }}
{{- if has "secret" .follows }}
{{- include "inference-server.makeSecrets" .root }}
{{- $_ := set $annotations "checksum/secret" (.root.Values.madeSecrets | toJson | sha256sum) }}
{{- end }}
labels: {{- include "inference-server.selectorLabels" . | nindent 2 }}
{{- with merge $annotations ((get .root.Values .component).podAnnotations | default dict) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What all pods have in common: dict "root" $ "values" WITH-ITS-NODE-SELECTOR "user" UID; "account" is
for components that use the Kubernetes API. */}}
{{- define "inference-server.podSpec" -}}
{{- if .account }}
serviceAccountName: {{ .account }}
{{- end }}
automountServiceAccountToken: {{ not (empty .account) }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Of a container: dict "root" $ "image" VALUES "resources" VALUES, and "module" NAME if it runs one of
the server's: in development it restarts when its sources change. */}}
{{- define "inference-server.container" -}}
{{- $reloads := and .module .root.Values.development }}
image: {{ include "inference-server.image" . | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- with .module }}
command: {{ ternary (list "watchfiles" "--filter" "python" (printf "python -m %s" .) "/srv") (list "python" "-m" .) $reloads | toJson }}
{{- end }}
resources: {{- toYaml .resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: {{ not $reloads }}
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* A writable /tmp, since the root file system is read-only. */}}
{{- define "inference-server.tmpMount" -}}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "inference-server.tmpVolume" -}}
- name: tmp
  emptyDir: {}
{{- end }}

{{- /* A container that migrates the schema (`migrate`) or waits until it is migrated (`wait`): dict "root" $
"verb" VERB. */}}
{{- define "inference-server.schemaContainer" -}}
{{- $values := .root.Values }}
- name: {{ .verb }}-schema
  {{- include "inference-server.container" (dict "root" .root "image" $values.gateway.image "resources" $values.migrations.resources) | nindent 2 }}
  command: [python, -c, {{ .root.Files.Get "files/schema.py" | toJson }}]
  args: [{{ .verb }}, {{ $values.migrations.timeoutSeconds | quote }}]
  envFrom:
    - configMapRef: {name: {{ include "inference-server.fullname" .root }}}
  env: {{- include "inference-server.databaseEnv" .root | nindent 4 }}
  volumeMounts: {{- include "inference-server.tmpMount" . | nindent 4 }}
{{- end }}

{{- /* The probes of the server's processes: dict "root" $ "port" NAME. In development without liveness: a
restarted container has the sources of its image, not the edited ones. */}}
{{- define "inference-server.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: {{ .port }}}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /health/ready, port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- if not .root.Values.development }}
livenessProbe:
  httpGet: {path: /health/live, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}
{{- end }}

{{- /* The PersistentVolumeClaim of a StatefulSet, or an emptyDir in its place. */}}
{{- define "inference-server.dataClaim" -}}
{{- if .enabled }}
volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests: {storage: {{ .size | toJson }}}
{{- end }}
{{- end }}


{{- /* PodDisruptionBudgets and roles. */}}

{{- /* dict "root" $ "component" NAME */}}
{{- define "inference-server.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{- include "inference-server.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "inference-server.selectorLabels" . | nindent 6 }}
{{- end }}

{{- /* Roles of a component: dict "root" $ "component" NAME "everywhere" RULES "inNamespaces" RULES; the
latter only in watchNamespaces, if it is set. */}}
{{- define "inference-server.rights" -}}
{{- $ := . }}
{{- $scopes := .root.Values.watchNamespaces }}
{{- $rules := .everywhere }}
{{- if not $scopes }}
{{- $rules = concat .everywhere .inNamespaces }}
{{- end }}
{{- include "inference-server.grant" (dict "root" .root "component" .component "rules" $rules) }}
{{- range $scopes }}
{{- include "inference-server.grant" (dict "root" $.root "component" $.component "rules" $.inNamespaces "namespace" .) }}
{{- end }}
{{- end }}

{{- /* A role and its binding, in a namespace if one is given; "part" distinguishes several of a component. */}}
{{- define "inference-server.grant" -}}
{{- $cluster := ternary "" "Cluster" (hasKey . "namespace") }}
{{- $name := printf "%s%s" (include "inference-server.clusterName" .) (.part | default "") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $cluster }}Role
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- include "inference-server.labels" . | nindent 4 }}
rules: {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $cluster }}RoleBinding
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- include "inference-server.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $cluster }}Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "inference-server.serviceAccountName" . }}
    namespace: {{ .root.Release.Namespace }}
{{ end }}


{{- /* Parts of NetworkPolicies. */}}

{{- /* A peer: the pods of a component. */}}
{{- define "inference-server.peer" -}}
- podSelector:
    matchLabels: {{- include "inference-server.selectorLabels" . | nindent 6 }}
{{- end }}

{{- /* Addresses as peers; an empty list allows all: dict "cidrs" LIST. */}}
{{- define "inference-server.cidrPeers" -}}
{{- range . }}
- ipBlock: {cidr: {{ . }}}
{{- end }}
{{- end }}

{{- /* DNS at any address: node-local caches are not pods. */}}
{{- define "inference-server.egressToDns" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{- define "inference-server.egressToApiServer" -}}
{{- with .Values.networkPolicy.apiServer -}}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .cidrs }}
  to: {{- include "inference-server.cidrPeers" . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* To a bundled server, or to the external one in its place: dict "root" $ "component" NAME "port" PORT
"external" VALUES. */}}
{{- define "inference-server.egressToServer" -}}
{{- if .external.existingSecret -}}
- ports:
    - {protocol: TCP, port: {{ .external.port }}}
  {{- with .external.cidrs }}
  to: {{- include "inference-server.cidrPeers" . | nindent 4 }}
  {{- end }}
{{- else -}}
- ports:
    - {protocol: TCP, port: {{ .port }}}
  to: {{- include "inference-server.peer" . | nindent 4 }}
{{- end }}
{{- end }}

{{- define "inference-server.egressToDatabase" -}}
{{ include "inference-server.egressToServer" (dict "root" . "component" "postgresql" "port" 5432 "external" .Values.externalDatabase) }}
{{- end }}

{{- define "inference-server.egressToRedis" -}}
{{ include "inference-server.egressToServer" (dict "root" . "component" "valkey" "port" 6379 "external" .Values.externalRedis) }}
{{- end }}
