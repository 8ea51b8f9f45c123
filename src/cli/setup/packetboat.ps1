#Requires -Version 5.1
<#
.SYNOPSIS
Gives packetboat access to mailboxes in Exchange Online, or takes the access away.

.DESCRIPTION
packetboat setup --script wrote this file for one configuration. The script
- registers an application in Entra and uploads packetboat's certificate (the public part; the key is not in this file),
- gives the application its permissions of Office 365 Exchange Online, and consents to them,
- makes the application's service principal in Exchange,
- gives it FullAccess to each mailbox that is read, and switches the mailbox's protocols on,
- where packetboat sends: gives it the role Application SMTP.SendAsApp for each mailbox (RBAC for Applications), and
  switches SMTP AUTH on for that mailbox.

Each step looks first, and changes only what is missing. You can run the script again at any time. It prints one line
for each thing that it changed, and one for each that was right already.

The script needs two modules, and installs none: Microsoft.Graph.Applications, which brings
Microsoft.Graph.Authentication, and ExchangeOnlineManagement. The two cannot sign in within one process (issue 3394 of
microsoftgraph/msgraph-sdk-powershell). So the part in Exchange runs in a PowerShell process of its own.

You sign in twice: for Entra as a Cloud Application Administrator or above, for Exchange as an Exchange Administrator.
If these are two people, use -Part.

NOT TRIED AT MICROSOFT. Nobody has run this script against a tenant yet. Tests compare its syntax, its commands and
their parameters with Microsoft's documentation, and play it against a pretend tenant. Run it with -WhatIf first. Least
certain are:
- Entra may limit a certificate to one year: the documentation of Microsoft Graph contradicts practice here.
- Get-MailboxPermission may not find a right by the application's object id. Then the script gives the right again,
  which does no harm, and -Undo may miss it: look with Get-MailboxPermission afterwards.
- Exchange may take longer than two minutes to know a new application. Then run the script again.

.PARAMETER Undo
Takes FullAccess to the mailboxes below, and the role that sends, away from the application, whoever gave them. If this file is of a whole
configuration and not of one account, -Undo also removes the service principal in Exchange, the consent in Entra, and
the certificate that this script uploaded. It removes the registration only if this script made it. The mailboxes'
protocols stay on: other programs may use them.

.PARAMETER Part
Does the part in Entra alone, or the part in Exchange alone.

.PARAMETER Number
With -Part Exchange: does only this entry of the list below. The first one is 0.

.PARAMETER ClientId
With -Part Exchange: the application (client) id, if the list below does not have it.

.PARAMETER ObjectId
With -Part Exchange: the object id of the enterprise application. It is not that of the app registration.

.PARAMETER SignInAs
With -Part Exchange: the user name to sign in with.

.EXAMPLE
./packetboat.ps1 -WhatIf

Signs in, looks, prints what it would change, and changes nothing.

.EXAMPLE
./packetboat.ps1
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [switch] $Undo,

    [ValidateSet('All', 'Entra', 'Exchange')]
    [string] $Part = 'All',

    [int] $Number = -1,

    [ValidatePattern('^([0-9A-Fa-f-]{36})?$')]
    [string] $ClientId = '',

    [ValidatePattern('^([0-9A-Fa-f-]{36})?$')]
    [string] $ObjectId = '',

    [string] $SignInAs = ''
)

$ErrorActionPreference = 'Stop'
# The exit code of the part in Exchange is looked at.
$PSNativeCommandUseErrorActionPreference = $false
$Caller = $PSCmdlet
# The modules would take -WhatIf for themselves, and not even sign in.
$IsTrial = [bool] $WhatIfPreference
$WhatIfPreference = $false

# packetboat setup --script writes $Wanted, $LongScopes and $IsWhole in place of this line.

# The sign of what this script made in Entra.
$Mark = 'packetboat.ps1'

# The application id of Office 365 Exchange Online, the same in every tenant.
$ExchangeOnline = '00000002-0000-0ff1-ce00-000000000000'

# The role of RBAC for Applications that sends from the mailboxes of a scope.
$SendingRole = 'Application SMTP.SendAsApp'

$Count = @{ Changed = 0; Right = 0; Failed = 0 }
$Ending = @{ Lines = @() }

function Write-Change([string] $What) {
    $Count.Changed++
    Write-Host "  changed        $What" -ForegroundColor Green
}

function Write-Right([string] $What) {
    $Count.Right++
    Write-Host "  already right  $What"
}

function Write-Failure([string] $What) {
    $Count.Failed++
    Write-Host "  FAILED         $What" -ForegroundColor Red
}

# Returns whether to do it. With -WhatIf it prints the action and returns false; with -Confirm it asks.
function Confirm-Change([string] $Target, [string] $Action) {
    if ($IsTrial) {
        Write-Host "  would          ${Target}: $Action"
        return $false
    }
    $Caller.ShouldProcess($Target, $Action)
}

# Repeats an action for two minutes: a new object is not known everywhere at once.
function Invoke-Patiently([scriptblock] $Action) {
    for ($Try = 1; $true; $Try++) {
        try {
            return & $Action
        } catch {
            if ($Try -ge 12) { throw }
            Write-Host "  not yet ($($_.Exception.Message)); next try in 10 seconds"
            Start-Sleep -Seconds 10
        }
    }
}

function Assert-Module([string[]] $Name) {
    $Missing = @($Name | Where-Object { -not (Get-Module -ListAvailable -Name $_) })
    if ($Missing.Count -gt 0) {
        $Lines = $Missing | ForEach-Object { "    Install-Module $_ -Scope CurrentUser" }
        throw "PowerShell modules are missing, and this script installs none. Run:`n$($Lines -join "`n")"
    }
}

#region Entra

function ConvertTo-Certificate([byte[]] $Der) {
    New-Object -TypeName System.Security.Cryptography.X509Certificates.X509Certificate2 -ArgumentList (, $Der)
}

# The certificate, as Microsoft Graph takes it.
function Get-NewCredential($One) {
    $Certificate = ConvertTo-Certificate ([System.Convert]::FromBase64String($One.Certificate))
    @{
        Type          = 'AsymmetricX509Cert'
        Usage         = 'Verify'
        Key           = $Certificate.RawData
        DisplayName   = $Mark
        StartDateTime = $Certificate.NotBefore.ToUniversalTime()
        EndDateTime   = $Certificate.NotAfter.ToUniversalTime()
    }
}

# The certificates of an application. Graph returns their content only for one application, and if it is named.
function Get-OldCredential([string] $Id) {
    $Found = Get-MgApplication -ApplicationId $Id -Property 'keyCredentials' -ErrorAction Stop
    $Found.KeyCredentials | Where-Object { $_ }
}

# Returns whether a credential is this certificate. A credential may also be something else than a certificate.
function Test-Thumbprint($Credential, [string] $Thumbprint) {
    try {
        $Credential.Key -and (ConvertTo-Certificate $Credential.Key).Thumbprint -eq $Thumbprint
    } catch {
        $false
    }
}

# Finds the registration: by its client id, or else by the name that this script gives.
function Find-Application($One) {
    if ($One.ClientId) {
        $Id = $One.ClientId.Replace("'", "''")
        $Found = @(Get-MgApplication -Filter "appId eq '$Id'" -ErrorAction Stop)
        if ($Found.Count -eq 0) {
            throw ("the tenant has no app registration with the client id $($One.ClientId): correct client_id of " +
                "[identity.$($One.Name)], or set it to 00000000-0000-0000-0000-000000000000 for a new registration; " +
                "then make this script anew")
        }
        return $Found[0]
    }
    $Name = $One.DisplayName.Replace("'", "''")
    $Found = @(Get-MgApplication -Filter "displayName eq '$Name'" -ErrorAction Stop)
    if ($Found.Count -eq 0) { return $null }
    # Anybody may have registered an application of this name, to get its rights. The certificate proves that it is
    # packetboat's.
    if ($Found.Count -eq 1) {
        $Known = @(Get-OldCredential $Found[0].Id | Where-Object { Test-Thumbprint $_ $One.Thumbprint })
        if ($Known.Count -gt 0) { return $Found[0] }
    }
    $Ids = @($Found | ForEach-Object { $_.AppId }) -join ', '
    throw ("the tenant has an app registration '$($One.DisplayName)' without packetboat's certificate: $Ids. If it " +
        "is yours, put its client id into client_id of [identity.$($One.Name)], and make this script anew")
}

# The permissions, as Exchange Online's own service principal defines them.
function Get-Role($One, $Exchange) {
    foreach ($Permission in $One.Permissions) {
        $Role = $Exchange.AppRoles |
            Where-Object { $_.Value -eq $Permission -and $_.AllowedMemberTypes -contains 'Application' }
        if (-not $Role) { throw "Office 365 Exchange Online has no application permission $Permission in this tenant" }
        $Role
    }
}

function New-Application($One, $Roles) {
    if (-not (Confirm-Change $One.DisplayName 'register the application, with its certificate')) { return $null }
    $Access = @{
        ResourceAppId  = $ExchangeOnline
        ResourceAccess = @($Roles | ForEach-Object { @{ Id = $_.Id; Type = 'Role' } })
    }
    # An application that only sends has no API permission.
    $Accesses = @()
    if (@($Roles).Count -gt 0) { $Accesses = @($Access) }
    $Made = New-MgApplication -DisplayName $One.DisplayName -SignInAudience 'AzureADMyOrg' -Tags @($Mark) `
        -KeyCredentials @(Get-NewCredential $One) -RequiredResourceAccess $Accesses -Confirm:$false -ErrorAction Stop
    Write-Change "app registration '$($One.DisplayName)', client id $($Made.AppId), certificate $($One.Thumbprint)"
    $Made
}

# Uploads the certificate, and keeps the others: an update replaces the whole list.
function Update-Certificate($One, $Application) {
    $Old = @(Get-OldCredential $Application.Id)
    if (@($Old | Where-Object { Test-Thumbprint $_ $One.Thumbprint }).Count -gt 0) {
        Write-Right "certificate $($One.Thumbprint)"
    } elseif (Confirm-Change $Application.DisplayName "upload the certificate $($One.Thumbprint)") {
        Update-MgApplication -ApplicationId $Application.Id -KeyCredentials ($Old + @(Get-NewCredential $One)) `
            -Confirm:$false -ErrorAction Stop | Out-Null
        Write-Change "certificate $($One.Thumbprint)"
    }
}

# Lists the permissions in the registration, where the portal shows them.
function Update-Permission($Application, $Roles) {
    $Old = @($Application.RequiredResourceAccess | Where-Object { $_ })
    $Own = @($Old | Where-Object { $_.ResourceAppId -eq $ExchangeOnline } | ForEach-Object { $_.ResourceAccess })
    $Lacking = @($Roles | Where-Object { @($Own | ForEach-Object { $_.Id }) -notcontains $_.Id })
    if ($Lacking.Count -eq 0) {
        Write-Right 'permissions in the registration'
    } elseif (Confirm-Change $Application.DisplayName "list the permissions $(@($Lacking.Value) -join ', ')") {
        $Others = @($Old | Where-Object { $_.ResourceAppId -ne $ExchangeOnline })
        $Access = @{
            ResourceAppId  = $ExchangeOnline
            ResourceAccess = @($Own) + @($Lacking | ForEach-Object { @{ Id = $_.Id; Type = 'Role' } })
        }
        Update-MgApplication -ApplicationId $Application.Id -RequiredResourceAccess ($Others + @($Access)) `
            -Confirm:$false -ErrorAction Stop | Out-Null
        Write-Change "permissions in the registration: $(@($Lacking.Value) -join ', ')"
    }
}

function Find-Enterprise([string] $AppId) {
    Get-MgServicePrincipal -Filter "appId eq '$AppId'" -ErrorAction Stop | Select-Object -First 1
}

function Set-Enterprise($Application) {
    $Found = Find-Enterprise $Application.AppId
    if ($Found) {
        Write-Right "enterprise application, object id $($Found.Id)"
    } elseif (Confirm-Change $Application.DisplayName 'make the enterprise application') {
        $Found = Invoke-Patiently { New-MgServicePrincipal -AppId $Application.AppId -Confirm:$false -ErrorAction Stop }
        Write-Change "enterprise application, object id $($Found.Id)"
    }
    $Found
}

# Consents: an application permission is in force once it is assigned to the enterprise application.
function Set-Consent($Enterprise, $Exchange, $Roles) {
    $Old = @(Get-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $Enterprise.Id -All -ErrorAction Stop)
    foreach ($Role in $Roles) {
        if ($Old | Where-Object { $_.AppRoleId -eq $Role.Id -and $_.ResourceId -eq $Exchange.Id }) {
            Write-Right "consent to $($Role.Value)"
        } elseif (Confirm-Change $Enterprise.DisplayName "consent to $($Role.Value)") {
            Invoke-Patiently {
                New-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $Enterprise.Id -PrincipalId $Enterprise.Id `
                    -ResourceId $Exchange.Id -AppRoleId $Role.Id -Confirm:$false -ErrorAction Stop
            } | Out-Null
            Write-Change "consent to $($Role.Value)"
        }
    }
}

function Set-Entra($One) {
    $Exchange = Find-Enterprise $ExchangeOnline
    if (-not $Exchange) { throw 'this tenant has no Office 365 Exchange Online: is it the right one?' }
    $Roles = @(Get-Role $One $Exchange)
    $Application = Find-Application $One
    if ($Application) {
        Write-Right "app registration '$($Application.DisplayName)', client id $($Application.AppId)"
        Update-Certificate $One $Application
        Update-Permission $Application $Roles
    } else {
        $Application = New-Application $One $Roles
    }
    $Enterprise = if ($Application) { Set-Enterprise $Application }
    if ($Enterprise) { Set-Consent $Enterprise $Exchange $Roles }
    @{ ClientId = "$($Application.AppId)"; ObjectId = "$($Enterprise.Id)" }
}

# Takes away what the part in Entra gave.
function Remove-Entra($One, $Application, $Enterprise) {
    if ($Application.Tags -contains $Mark) {
        if (Confirm-Change $Application.DisplayName 'remove the app registration, which this script made') {
            Remove-MgApplication -ApplicationId $Application.Id -Confirm:$false -ErrorAction Stop | Out-Null
            Write-Change "app registration '$($Application.DisplayName)' removed"
        }
        return
    }
    $Exchange = Find-Enterprise $ExchangeOnline
    $Roles = @(Get-Role $One $Exchange)
    $RoleIds = @($Roles | ForEach-Object { $_.Id })
    $Given = if ($Enterprise) {
        Get-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $Enterprise.Id -All -ErrorAction Stop |
            Where-Object { $_.ResourceId -eq $Exchange.Id -and $RoleIds -contains $_.AppRoleId }
    }
    foreach ($Assignment in $Given) {
        if (Confirm-Change $Enterprise.DisplayName "withdraw the consent $($Assignment.Id)") {
            Remove-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $Enterprise.Id `
                -AppRoleAssignmentId $Assignment.Id -Confirm:$false -ErrorAction Stop | Out-Null
            Write-Change "consent $($Assignment.Id) withdrawn"
        }
    }
    $Old = @(Get-OldCredential $Application.Id)
    $Rest = @($Old | Where-Object { -not ($_.DisplayName -eq $Mark -and (Test-Thumbprint $_ $One.Thumbprint)) })
    if ($Rest.Count -eq $Old.Count) {
        Write-Right 'no certificate that this script uploaded'
    } elseif (Confirm-Change $Application.DisplayName "remove the certificate $($One.Thumbprint)") {
        Update-MgApplication -ApplicationId $Application.Id -KeyCredentials $Rest -Confirm:$false `
            -ErrorAction Stop | Out-Null
        Write-Change "certificate $($One.Thumbprint) removed"
    }
}

#endregion
#region Exchange

# Runs the part in Exchange in a process of its own.
function Start-Exchange([int] $At, $Ids) {
    $Engine = if ($PSVersionTable.PSEdition -eq 'Core') { 'pwsh' } else { 'powershell' }
    $Arguments = @('-NoProfile', '-File', $PSCommandPath, '-Part', 'Exchange', '-Number', "$At")
    if ($Ids.ClientId) { $Arguments += @('-ClientId', $Ids.ClientId) }
    if ($Ids.ObjectId) { $Arguments += @('-ObjectId', $Ids.ObjectId) }
    if ($Ids.Account) { $Arguments += @('-SignInAs', $Ids.Account) }
    if ($Undo) { $Arguments += '-Undo' }
    if ($IsTrial) { $Arguments += '-WhatIf' }
    if ($ConfirmPreference -eq 'Low') { $Arguments += '-Confirm' }
    & $Engine $Arguments
    if ($LASTEXITCODE -ne 0) { Write-Failure 'the part in Exchange: see the lines above' }
}

function Connect-Exchange($One) {
    if ($SignInAs) {
        Connect-ExchangeOnline -ExchangeEnvironmentName $One.ExchangeEnvironment -UserPrincipalName $SignInAs `
            -ShowBanner:$false -ErrorAction Stop
    } else {
        Connect-ExchangeOnline -ExchangeEnvironmentName $One.ExchangeEnvironment -ShowBanner:$false -ErrorAction Stop
    }
}

# Get-ServicePrincipal -Identity returns every service principal if it knows none by that id. So the filter is here.
function Find-Principal([string] $AppId) {
    Get-ServicePrincipal -ErrorAction Stop | Where-Object { $AppId -and $_.AppId -eq $AppId } | Select-Object -First 1
}

# Makes Exchange's service principal, and returns its object id. Replaces one that has another object id, such as that
# of the app registration: Exchange accepts it, but no login works with it.
function Set-Principal($One, [string] $AppId) {
    $Old = Find-Principal $AppId
    if ($Old -and (-not $ObjectId -or $Old.ObjectId -eq $ObjectId)) {
        Write-Right "service principal in Exchange, object id $($Old.ObjectId)"
        return $Old.ObjectId
    }
    if (-not $ObjectId -and -not $IsTrial) {
        throw 'Exchange does not know the application yet: run this script without -Part, or name its -ObjectId'
    }
    if (-not (Confirm-Change $One.DisplayName 'make the service principal in Exchange')) { return $ObjectId }
    if ($Old) {
        Remove-ServicePrincipal -Identity $Old.ObjectId -Confirm:$false -ErrorAction Stop | Out-Null
        Write-Change "service principal with the wrong object id $($Old.ObjectId) removed"
    }
    Invoke-Patiently {
        New-ServicePrincipal -AppId $AppId -ObjectId $ObjectId -DisplayName $One.DisplayName -Confirm:$false `
            -ErrorAction Stop
    } | Out-Null
    Write-Change "service principal in Exchange, object id $ObjectId"
    return $ObjectId
}

function Get-FullAccess([string] $Mailbox, [string] $User) {
    Get-MailboxPermission -Identity $Mailbox -User $User -ErrorAction Stop |
        Where-Object { @($_.AccessRights) -match 'FullAccess' -and "$($_.Deny)" -ne 'True' }
}

function Set-MailboxRight([string] $Mailbox, [string] $User) {
    $Given = try { if ($User) { Get-FullAccess $Mailbox $User } } catch { $null }
    if ($Given) {
        Write-Right "${Mailbox}: FullAccess"
    } elseif (Confirm-Change $Mailbox 'give the application FullAccess') {
        Invoke-Patiently {
            Add-MailboxPermission -Identity $Mailbox -User $User -AccessRights FullAccess -AutoMapping $false `
                -Confirm:$false -ErrorAction Stop
        } | Out-Null
        Write-Change "${Mailbox}: FullAccess"
    }
}

function Set-MailboxProtocol($One, [string] $Mailbox, $Settings) {
    if ($One.ImapEnabled) {
        if ("$($Settings.ImapEnabled)" -eq 'True') {
            Write-Right "${Mailbox}: IMAP is on"
        } elseif (Confirm-Change $Mailbox 'switch IMAP on') {
            Set-CASMailbox -Identity $Mailbox -ImapEnabled $true -Confirm:$false -ErrorAction Stop | Out-Null
            Write-Change "${Mailbox}: IMAP is on"
        }
    }
    if ($One.PopEnabled) {
        if ("$($Settings.PopEnabled)" -eq 'True') {
            Write-Right "${Mailbox}: POP is on"
        } elseif (Confirm-Change $Mailbox 'switch POP on') {
            Set-CASMailbox -Identity $Mailbox -PopEnabled $true -Confirm:$false -ErrorAction Stop | Out-Null
            Write-Change "${Mailbox}: POP is on"
        }
    }
    if ($One.Sends) {
        # Without a value of its own, the mailbox has the organization's, which is mostly off.
        if ("$($Settings.SmtpClientAuthenticationDisabled)" -eq 'False') {
            Write-Right "${Mailbox}: SMTP AUTH is on"
        } elseif (Confirm-Change $Mailbox 'switch SMTP AUTH on') {
            Set-CASMailbox -Identity $Mailbox -SmtpClientAuthenticationDisabled $false -Confirm:$false `
                -ErrorAction Stop | Out-Null
            Write-Change "${Mailbox}: SMTP AUTH is on"
        }
    }
}

# Exchange takes 64 characters: packetboat has shortened the longer names.
function Get-ScopeName([string] $Mailbox) {
    $Long = $LongScopes | Where-Object { $_.Mailbox -eq $Mailbox }
    if ($Long) { $Long.Scope } else { "packetboat $Mailbox" }
}

# The assignments of the role that sends, for the scope of one mailbox.
function Get-SendingRole([string] $Scope) {
    Get-ManagementRoleAssignment -Role $SendingRole -ErrorAction Stop |
        Where-Object { $_.CustomResourceScope -eq $Scope }
}

# Lets the application send from the mailbox, by a role for a scope that has this mailbox alone.
function Set-Sending([string] $Mailbox, [string] $User) {
    $Scope = Get-ScopeName $Mailbox
    if (Get-ManagementScope -ErrorAction Stop | Where-Object { $_.Name -eq $Scope }) {
        Write-Right "${Mailbox}: management scope"
    } elseif (Confirm-Change $Mailbox 'make a management scope') {
        $Address = $Mailbox.Replace("'", "''")
        New-ManagementScope -Name $Scope -RecipientRestrictionFilter "PrimarySmtpAddress -eq '$Address'" `
            -Confirm:$false -ErrorAction Stop | Out-Null
        Write-Change "${Mailbox}: management scope '$Scope'"
    }
    # An assignee may be shown by its name; so the assignments are asked for by the object id.
    $Given = if ($User) {
        Get-ManagementRoleAssignment -RoleAssignee $User -ErrorAction Stop |
            Where-Object { $_.Role -eq $SendingRole -and $_.CustomResourceScope -eq $Scope }
    }
    if ($Given) {
        Write-Right "${Mailbox}: $SendingRole"
    } elseif (Confirm-Change $Mailbox "give the application the role $SendingRole") {
        Invoke-Patiently {
            New-ManagementRoleAssignment -App $User -Role $SendingRole -CustomResourceScope $Scope -Confirm:$false `
                -ErrorAction Stop
        } | Out-Null
        Write-Change "${Mailbox}: $SendingRole"
    }
}

# Takes the role away, and the scope with the last application that had it.
function Remove-Sending([string] $Mailbox, [string] $User) {
    $Scope = Get-ScopeName $Mailbox
    $Given = @(Get-ManagementRoleAssignment -RoleAssignee $User -ErrorAction Stop |
            Where-Object { $_.Role -eq $SendingRole -and $_.CustomResourceScope -eq $Scope })
    if ($Given.Count -eq 0) {
        Write-Right "${Mailbox}: no $SendingRole"
        return
    }
    if (-not (Confirm-Change $Mailbox "take the role $SendingRole away from the application")) { return }
    foreach ($Assignment in $Given) {
        Remove-ManagementRoleAssignment -Identity $Assignment.Identity -Confirm:$false -ErrorAction Stop | Out-Null
        Write-Change "${Mailbox}: $SendingRole taken away"
    }
    if (@(Get-SendingRole $Scope).Count -eq 0) {
        Remove-ManagementScope -Identity $Scope -Confirm:$false -ErrorAction Stop | Out-Null
        Write-Change "${Mailbox}: management scope '$Scope' removed"
    }
}

function Set-Exchange($One) {
    $AppId = if ($ClientId) { $ClientId } else { $One.ClientId }
    if (-not $AppId -and -not $IsTrial) { throw 'name the application with -ClientId' }
    Connect-Exchange $One
    # Without any of the mailboxes this may be another organization: nothing has changed there yet.
    $Known = @{}
    foreach ($Mailbox in $One.Mailboxes) {
        try {
            $Known[$Mailbox] = Get-CASMailbox -Identity $Mailbox -ErrorAction Stop
        } catch {
            Write-Failure "${Mailbox}: is the address right? $($_.Exception.Message)"
        }
    }
    if ($Known.Count -eq 0) { throw 'this organization has none of the mailboxes: nothing was changed in Exchange' }
    $User = Set-Principal $One $AppId
    foreach ($Mailbox in $One.Mailboxes | Where-Object { $Known.ContainsKey($_) }) {
        try {
            if ($One.ImapEnabled -or $One.PopEnabled) { Set-MailboxRight $Mailbox $User }
            if ($One.Sends) { Set-Sending $Mailbox $User }
            Set-MailboxProtocol $One $Mailbox $Known[$Mailbox]
        } catch {
            Write-Failure "${Mailbox}: $($_.Exception.Message)"
        }
    }
}

# Takes away what the part in Exchange gave.
function Remove-Exchange($One) {
    $AppId = if ($ClientId) { $ClientId } else { $One.ClientId }
    if (-not $AppId) { throw 'name the application with -ClientId' }
    Connect-Exchange $One
    $Principal = Find-Principal $AppId
    if (-not $Principal) {
        Write-Right 'Exchange does not know the application'
        return
    }
    foreach ($Mailbox in $One.Mailboxes) {
        # A right that cannot be read may be there all the same.
        $Given = try { Get-FullAccess $Mailbox $Principal.ObjectId } catch { $true }
        if (-not $Given) {
            Write-Right "${Mailbox}: no FullAccess"
        } elseif (Confirm-Change $Mailbox 'take FullAccess away from the application') {
            try {
                Remove-MailboxPermission -Identity $Mailbox -User $Principal.ObjectId -AccessRights FullAccess `
                    -Confirm:$false -ErrorAction Stop | Out-Null
                Write-Change "${Mailbox}: FullAccess taken away"
            } catch {
                Write-Failure "${Mailbox}: $($_.Exception.Message)"
            }
        }
        if ($One.Sends) {
            try {
                Remove-Sending $Mailbox $Principal.ObjectId
            } catch {
                Write-Failure "${Mailbox}: $($_.Exception.Message)"
            }
        }
    }
    if ($IsWhole -and (Confirm-Change $One.DisplayName 'remove the service principal in Exchange')) {
        Remove-ServicePrincipal -Identity $Principal.ObjectId -Confirm:$false -ErrorAction Stop | Out-Null
        Write-Change 'service principal in Exchange removed'
    }
}

#endregion

function Invoke-Undo([int] $At, $One, [string] $Account) {
    $Application = Find-Application $One
    if (-not $Application) {
        Write-Right 'the tenant has no such application'
        return
    }
    $Enterprise = Find-Enterprise $Application.AppId
    if ($Part -eq 'All') {
        Start-Exchange $At @{ ClientId = $Application.AppId; ObjectId = "$($Enterprise.Id)"; Account = $Account }
    }
    if ($Count.Failed -gt 0) { throw 'the application stays in Entra until Exchange has let it go: run -Undo again' }
    if ($IsWhole) { Remove-Entra $One $Application $Enterprise }
}

# Keeps the next command, which is printed last.
function Add-Next([int] $At, $One, $Ids) {
    if (-not $Ids.ClientId) { return }
    $Ending.Lines += @('', "Client id of [identity.$($One.Name)]: $($Ids.ClientId)")
    if ($Part -eq 'Entra') {
        $Name = Split-Path -Leaf $PSCommandPath
        $Command = "./$Name -Part Exchange -Number $At -ClientId $($Ids.ClientId) -ObjectId $($Ids.ObjectId)"
        $Ending.Lines += @("Next, as an Exchange Administrator: $Command")
    }
    $Ending.Lines += @("Next, on packetboat's computer: $($One.Next.Replace('{0}', $Ids.ClientId))")
}

# The part in Entra, and the other one behind it.
function Invoke-Entra([int] $At, $One) {
    Connect-MgGraph -Scopes 'Application.ReadWrite.All', 'AppRoleAssignment.ReadWrite.All' -TenantId $One.Tenant `
        -Environment $One.GraphEnvironment -ContextScope Process -NoWelcome -ErrorAction Stop
    try {
        $Account = (Get-MgContext).Account
        if ($Undo) {
            Invoke-Undo $At $One $Account
            return
        }
        $Ids = Set-Entra $One
        $Ids.Account = $Account
        if ($Part -eq 'All') { Start-Exchange $At $Ids }
        Add-Next $At $One $Ids
    } finally {
        Disconnect-MgGraph | Out-Null
    }
}

if (-not $PSCommandPath) { throw 'run this script as a file' }
if ($Part -ne 'Exchange') {
    if (Get-Module -Name ExchangeOnlineManagement) {
        throw 'this window already uses ExchangeOnlineManagement: run the script in a new PowerShell window'
    }
    Assert-Module 'Microsoft.Graph.Authentication', 'Microsoft.Graph.Applications'
}
if ($Part -ne 'Entra') { Assert-Module 'ExchangeOnlineManagement' }
for ($At = 0; $At -lt $Wanted.Count; $At++) {
    if ($Number -ge 0 -and $Number -ne $At) { continue }
    $One = $Wanted[$At]
    if ($Part -ne 'Exchange') {
        Write-Host "Entra, tenant $($One.Tenant), [identity.$($One.Name)]:"
        Invoke-Entra $At $One
    } else {
        Write-Host "Exchange, [identity.$($One.Name)]:"
        if ($Undo) { Remove-Exchange $One } else { Set-Exchange $One }
    }
}
Write-Host ''
Write-Host "${Part}: $($Count.Changed) changed, $($Count.Right) already right, $($Count.Failed) failed."
foreach ($Line in $Ending.Lines) { Write-Host $Line }
if ($Count.Failed -gt 0) { exit 1 }
